"""What of a pass's steps the API server did not take: it is left out until the next pass, and the others go on.

Of one target's writes none follows one that was not taken, since the floor must be written before the scale. What rests on a record that
was not taken is withheld, since a baseline must be recorded before it is overwritten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Spike
from groundswell_operator.saga.steps import Foreign, Hold, Note, Record, SetKeys, Step, Write

T = TypeVar("T", bound=Step)


@dataclass(frozen=True, slots=True)
class Untaken:
    """The keys of steps that were not taken."""

    refused: frozenset[Hashable] = frozenset()
    """They have changed nothing."""
    overtaken: frozenset[Hashable] = frozenset()
    """Somebody else changes their objects all the time: they have changed nothing, and may be taken at any moment."""
    unanswered: frozenset[Hashable] = frozenset()
    """They may have been carried out."""
    lasting: frozenset[Hashable] = frozenset()
    """Those that have not been answered for so long before this pass that nobody waits for them any more."""
    written: frozenset[Hashable] | None = None
    """What was written by who acts now, where a write of who acted before may still land; None where none may."""

    def with_refused(self, step: Step) -> Untaken:
        return dataclasses.replace(self, refused=self.refused | {key(step)})

    def with_overtaken(self, step: Step) -> Untaken:
        return dataclasses.replace(self, overtaken=self.overtaken | {key(step)})

    def with_unanswered(self, step: Step) -> Untaken:
        return dataclasses.replace(self, unanswered=self.unanswered | {key(step)})

    def without_unanswered(self, found: Hashable) -> Untaken:
        """May be asked for again."""
        return dataclasses.replace(self, unanswered=self.unanswered - {found})

    def __contains__(self, step: Step) -> bool:
        return any(key(step) in each for each in self._all)

    @property
    def _all(self) -> tuple[frozenset[Hashable], ...]:
        return self.refused, self.overtaken, self.unanswered

    def left(self, steps: Iterable[T]) -> list[T]:
        """Those of the steps that may still be taken."""
        return [each for each in steps if each not in self]

    def keeps_back(self, spike: Spike) -> bool:
        """Whether what its status is to say was not recorded."""
        return any(self._all) and not all(_records(spike).isdisjoint(each) for each in self._all)

    def is_out(self, spike: Spike) -> bool:
        """Whether others may have its place: it did not get it, or nobody has said for so long whether it did."""
        return self.keeps_back(spike) and _records(spike).isdisjoint(self.unanswered - self.lasting)

    def may_return(self, spike: Spike) -> bool:
        """Whether what it holds would be given back, but for an answer that did not come and may come yet."""
        return bool(_held(spike) & ((self.overtaken | self.unanswered) - self.lasting))

    def may_be_raised(self, spike: Spike) -> bool:
        """Whether what looks given back may be raised yet, by a write that somebody has sent who acted before."""
        return self.written is not None and not _held(spike) <= self.written

    def backed(self, steps: Iterable[Foreign], state: Namespace) -> list[Foreign]:
        """Those of the foreign writes that rest on recorded baselines only."""
        return [step for step in steps if not any(self.keeps_back(spike) for spike in _behind(step, state))]


NOTHING = Untaken()


def key(step: Step) -> Hashable:
    """The same for the same step of another moment, and for all writes to one target: its scale under an autoscaler is that one's to take
    back once the floor is given back, so who has written the floor need not have written both."""
    if isinstance(step, Write):
        return step.scaled.target
    if isinstance(step, SetKeys):
        return SetKeys, step.config_map.name
    return type(step), step.governing.uid if isinstance(step, Note) else step.spike.uid


def _records(spike: Spike) -> set[Hashable]:
    return {(Record, spike.uid), (Hold, spike.uid)}


def _held(spike: Spike) -> set[Hashable]:
    """The keys of the writes that it calls for."""
    progress = spike.progress
    return {*(each.target for each in progress.claims), *((SetKeys, each.config_map) for each in progress.patches)}


def _behind(step: Foreign, state: Namespace) -> list[Spike]:
    """The spikes whose baselines a write rests on."""
    if isinstance(step, Write):
        held = state.held.get(step.scaled.target)
        return [spike for spike, _ in held.claims] if held else []
    return [spike for spike, _ in state.patches.get(step.config_map.name, ())]
