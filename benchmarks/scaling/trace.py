"""The trace of a spike, and what is read off the replicas that met it. Times are seconds from its start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

TIMES_MAX = 50
RISE_S = 10.0
"""From once to fifty times the views; they double each 1.8 s, as what is passed on from one to the next does."""
PODS_AT_ONCE = 0.6
"""What once the views takes of pods: three run, for want of fewer a node's end would be felt. Fifty times take thirty."""
RECORD_S = 6.0
"""When the log says that it is a spike: what its detector may take at most."""
PLAYED_S = 75.0


def demand(at_s: float) -> float:
    """The pods that the views keep busy."""
    return PODS_AT_ONCE * math.pow(TIMES_MAX, min(at_s / RISE_S, 1.0))


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a Deployment at one moment."""

    at_s: float
    ordered: int
    """The replicas that it is told to have."""
    ready: int


Seen = Sequence[Sample]


def ready_after_s(seen: Seen, replicas: int) -> float | None:
    """When so many were ready for the first time; None when they never were."""
    return next((each.at_s for each in seen if each.ready >= replicas), None)


def unmet(seen: Seen) -> float:
    """Pod-seconds of views that found no ready pod."""
    return sum(
        max(0.0, demand((one.at_s + two.at_s) / 2) - one.ready) * (two.at_s - one.at_s) for one, two in pairwise(seen)
    )


def replica_minutes(seen: Seen) -> float:
    """Of what was ordered."""
    return sum(one.ordered * (two.at_s - one.at_s) for one, two in pairwise(seen)) / 60


def reversals(seen: Seen) -> int:
    """How often what was ordered turned from up to down or back."""
    changes = [two.ordered - one.ordered for one, two in pairwise(seen) if two.ordered != one.ordered]
    return sum((one > 0) != (two > 0) for one, two in pairwise(changes))


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that so big a part of all does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def told(seen: Seen) -> str:
    """Every change as `at:ordered/ready`, separated by spaces."""
    changed = [
        each
        for before, each in zip([None, *seen], seen, strict=False)
        if before is None or (before.ordered, before.ready) != (each.ordered, each.ready)
    ]
    return " ".join(f"{each.at_s:.2f}:{each.ordered}/{each.ready}" for each in changed)


def heard(text: str) -> Seen:
    """The changes in what `told` says."""
    found = []
    for word in text.split():
        at_s, _, pods = word.partition(":")
        ordered, _, ready = pods.partition("/")
        found.append(Sample(float(at_s), int(ordered), int(ready)))
    return found
