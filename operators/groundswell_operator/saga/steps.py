"""What can be done. Each step is one write, or one and the Events that tell of it; done twice it changes nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Notice
from groundswell_operator.saga.state import Condition, ConfigMap, Governing, Notes, Progress, Scaled, Spike


@dataclass(frozen=True, slots=True)
class Told:
    """A transition that people are told of. The same transition always has the same key, so it is told once."""

    key: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Record:
    """Writes a spike's progress, unless the object has changed since it was read."""

    spike: Spike
    progress: Progress
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Sets our finalizer, so that the spike cannot go before what it raised is given back."""

    spike: Spike


@dataclass(frozen=True, slots=True)
class LetGo:
    """Takes our finalizer away from a spike that is deleted."""

    spike: Spike
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Free:
    """Takes our finalizer away from a spike that is over, or that nobody will raise: its record stays, and keeps neither a namespace nor a
    deletion waiting."""

    spike: Spike


@dataclass(frozen=True, slots=True)
class Remove:
    """Deletes a spike that is long over."""

    spike: Spike


@dataclass(frozen=True, slots=True)
class Note:
    """Writes a policy's status."""

    governing: Governing
    notes: Notes
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class GiveUpFloor:
    """Leaves an autoscaler's floor to whoever has set it too, and sets the ceiling, where that is ours alone, to this one."""

    ceiling: int
    ceiling_set: bool = True
    """Otherwise it is taken away, since it was not there before."""


@dataclass(frozen=True, slots=True)
class Write:
    """A foreign write: it touches what is not the operator's own."""

    scaled: Scaled
    change: SetFloor | SetScale | GiveUpFloor


@dataclass(frozen=True, slots=True)
class SetKeys:
    """A foreign write: makes these the keys of a ConfigMap that are ours, with their values."""

    config_map: ConfigMap
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Notify:
    """Sends a notice, and records how that went; where it repeats another spike's notice, that is all that is recorded."""

    spike: Spike
    notice: Notice
    repeats: str = ""


Foreign = Write | SetKeys
Step = Record | Hold | LetGo | Free | Remove | Note | Write | SetKeys | Notify
