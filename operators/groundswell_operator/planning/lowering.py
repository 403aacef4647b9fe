"""How a raise is taken back: late, in small steps, and only what is still ours.

An autoscaler drops to its metric's figure in one step once the floor falls, so the steps are the floor's own. What is not known (what
the autoscaler wants, whether the spike is over) is never a reason to lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from groundswell_operator.policies import Cooldown


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened, in seconds of one clock; None when they have not."""

    raised_s: float
    over_s: float | None
    """When the spike was said to be over."""
    stepped_s: float | None
    """When the last step was taken."""


def due(cooldown: Cooldown, spike_duration_s_max: float, times: Times, now_s: float) -> bool:
    """Whether the next step down may be taken."""
    held_s = now_s - times.raised_s
    quiet = times.over_s is not None and now_s - times.over_s >= cooldown.quiet_period_s
    rested = times.stepped_s is None or now_s - times.stepped_s >= cooldown.step_interval_s
    return rested and held_s >= cooldown.min_hold_s and (quiet or held_s >= spike_duration_s_max)


def lowered(held: int, baseline: int, autoscaler_wants: int | None, ceiling: int, step_factor: float) -> int:
    """The next lower figure: `step_factor` of the extra less, at least one; never below the baseline or what the autoscaler wants now.

    A floor below what the autoscaler wants holds nothing up, so all of the rest goes at once then, as long as the autoscaler can hold what
    it wants under the `ceiling` that is given back. The figure stays where it could not, or where nobody knows what it wants.
    """
    if held <= baseline or autoscaler_wants is None:
        return held
    if held <= autoscaler_wants <= ceiling:
        return baseline
    step = max(1, math.floor((held - baseline) * step_factor))
    return min(held, max(held - step, baseline, autoscaler_wants))
