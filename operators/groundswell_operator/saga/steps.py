"""What can be done. Each step is one write, or one and the Events that tell of it; done twice it changes nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.saga.state import Condition, Governing, Notes, Progress, Scaled, Spike


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
    """Takes our finalizer away."""

    spike: Spike
    told: Sequence[Told] = ()


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
    """Drops our ownership of an autoscaler's bounds, and leaves their values to whoever set them too."""


@dataclass(frozen=True, slots=True)
class Write:
    """A foreign write: the only kind that touches what is not the operator's own."""

    scaled: Scaled
    change: SetFloor | SetScale | GiveUpFloor


Step = Record | Hold | LetGo | Remove | Note | Write
