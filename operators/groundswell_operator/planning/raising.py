"""How many replicas each target is to have while spikes live, and the writes that bring it there. A plan of raising never lowers.

The figures are absolute (a number of replicas, not a difference), so writing them twice changes nothing, and two spikes at once want the
larger of their figures, not the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundswell_operator.policies import Budget, Cooldown, OnExhausted

FIRST_PART = 0.5
"""Of a raise that has something before it in order; the rest waits until that is ready."""
WAIT_S_MAX = 10.0
"""And no longer than this: visitors are there already."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a target had before anything was raised."""

    replicas: int
    floor: int | None = None
    """Of its autoscaler; None without one."""
    ceiling: int | None = None
    floor_set: bool = True
    """Whether somebody had said so; otherwise the floor is what stands for a missing one."""
    ceiling_set: bool = True


@dataclass(frozen=True, slots=True)
class Demand:
    """What one policy asks of a target."""

    policy: str
    multiplier: float
    max: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """The replicas that a target is to have, and what kept them from being more."""

    replicas: int
    limited_by: Sequence[str] = ()
    """The policies with the strictest maximum, when it bites."""
    limited_by_partitions: bool = False
    """A consumer beyond the partitions of its topics would have nothing to read."""


def wanted(baseline: Baseline, demands: Sequence[Demand], partitions: int | None = None) -> Wanted:
    """The largest figure of all demands, within the strictest maximum and the partitions; never below the baseline."""
    most = max((times(baseline.replicas, each.multiplier) for each in demands), default=0)
    strictest = min((each.max for each in demands), default=0)
    bound = strictest if partitions is None else min(strictest, partitions)
    return Wanted(
        replicas=max(baseline.replicas, min(most, bound)),
        limited_by=[each.policy for each in demands if each.max == strictest] if bound == strictest < most else (),
        limited_by_partitions=bound < min(most, strictest),
    )


def times(replicas: int, multiplier: float) -> int:
    """Whole replicas, rounded up: 11 for 10 × 1.1, though that is a little more in binary."""
    return math.ceil(round(replicas * multiplier, 6))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a policy may still raise."""

    extra_replicas: int

    @classmethod
    def of(cls, budget: Budget, cooldown: Cooldown, replica_minutes_used: float) -> Allowance:
        """As many extra replicas as may be held at once, and can be paid for as long as a raise is held at least."""
        left = max(0.0, budget.replica_minutes_day_max - replica_minutes_used)
        return cls(min(budget.extra_replicas_max, math.floor(left * 60 / cooldown.min_hold_s)))


def affordable(
    baselines: Mapping[str, Baseline], figures: Mapping[str, int], allowance: Allowance, on_exhausted: OnExhausted
) -> dict[str, int]:
    """The figures that the budget covers. Clamped, every target gives up the same part of its raise, so that none outgrows another."""
    extras = {name: figure - baselines[name].replicas for name, figure in figures.items()}
    total = sum(extras.values())
    if total <= allowance.extra_replicas:
        return dict(figures)
    if on_exhausted is not OnExhausted.CLAMP:
        return {name: baselines[name].replicas for name in figures}
    return {
        name: baselines[name].replicas + extra * allowance.extra_replicas // total for name, extra in extras.items()
    }


@dataclass(frozen=True, slots=True)
class Raise:
    """A target on its way up."""

    order: int
    baseline: int
    figure: int
    """The replicas that it is to have in the end."""
    ready: int
    """Those that are ready now."""
    waited_s: float
    """Since it was decided."""

    @property
    def waits(self) -> bool:
        """Whether it is neither ready nor too old to be waited for."""
        return self.ready < self.figure and self.waited_s < WAIT_S_MAX


def wave(raises: Mapping[str, Raise]) -> dict[str, int]:
    """The replicas to ask for at this moment: all, of what has nothing unready before it in order; else the first part of the raise.

    Each waits for itself: neither does an older raise hurry a younger one, nor keep it waiting.
    """
    first = min((each.order for each in raises.values() if each.waits), default=math.inf)
    return {
        name: each.figure
        if each.order <= first or each.waited_s >= WAIT_S_MAX
        else each.baseline + math.ceil((each.figure - each.baseline) * FIRST_PART)
        for name, each in raises.items()
    }


@dataclass(frozen=True, slots=True)
class SetFloor:
    """Server-side apply of an autoscaler's bounds."""

    floor: int
    ceiling: int
    floor_set: bool = True
    """Otherwise it is taken away, since it was not there before."""
    ceiling_set: bool = True


@dataclass(frozen=True, slots=True)
class SetScale:
    """A patch of the target's scale, which does not wait for the autoscaler."""

    replicas: int


Write = SetFloor | SetScale


def writes(actual: Baseline, replicas: int) -> list[Write]:
    """What brings a target to `replicas`, in the order in which it must be written; nothing when it is there.

    The floor goes first: an autoscaler takes a lone scale back at its next look. Its ceiling follows where it would be below.
    """
    found: list[Write] = []
    if actual.floor is not None and actual.ceiling is not None and actual.floor < replicas:
        found.append(SetFloor(replicas, max(actual.ceiling, replicas)))
    if actual.replicas < replicas:
        found.append(SetScale(replicas))
    return found
