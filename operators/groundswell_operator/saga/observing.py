"""What would have been: a target whose spike is only observed, beside what the plan would have made of it.

Replica-seconds are those beyond the baseline. Those of the plan are counted from the decision, with its steps down at the end; those of
the target itself are counted from what was there at each look.
"""

from __future__ import annotations

import dataclasses
import math

from groundswell_operator.policies import Cooldown
from groundswell_operator.saga.state import Claim, Scaled, WouldHave

COUNT_S = 30.0
"""How often it is written down while nothing changes."""


def observed(claim: Claim, scaled: Scaled, decided_s: float, now_s: float) -> Claim:
    """The claim with what its target has done by itself; the same until something has changed, or it has to be written down."""
    found = claim.would_have or WouldHave(scaled.replicas, scaled.replicas, counted_s=now_s)
    changed = scaled.replicas != found.replicas or (found.reached_s is None and scaled.replicas >= claim.desired)
    if found is claim.would_have and not changed and now_s - found.counted_s < COUNT_S:
        return claim
    return dataclasses.replace(claim, would_have=_counted(found, claim, scaled.replicas, decided_s, now_s))


def ended(claim: Claim, cooldown: Cooldown | None, decided_s: float, now_s: float) -> Claim:
    """The claim with everything counted, the plan's steps down among it."""
    if claim.would_have is None:
        return claim
    found = _counted(claim.would_have, claim, claim.would_have.replicas, decided_s, now_s)
    down_s = _steps_down_s(claim.desired - claim.baseline.replicas, cooldown) if cooldown else 0
    planned_s = found.planned_replica_s + down_s
    return dataclasses.replace(claim, would_have=dataclasses.replace(found, planned_replica_s=planned_s))


def _counted(found: WouldHave, claim: Claim, replicas: int, decided_s: float, now_s: float) -> WouldHave:
    extra, more = max(0, found.replicas - claim.baseline.replicas), claim.desired - claim.baseline.replicas
    reached_s = now_s if found.reached_s is None and replicas >= claim.desired else found.reached_s
    return WouldHave(
        replicas=replicas,
        replicas_max=max(found.replicas_max, replicas),
        replica_s=round(found.replica_s + extra * max(0.0, now_s - found.counted_s), 3),
        planned_replica_s=round(more * max(0.0, now_s - decided_s), 3),
        counted_s=now_s,
        reached_s=reached_s,
    )


def _steps_down_s(extra: int, cooldown: Cooldown) -> int:
    """The replica-seconds between the first step down and the last."""
    found = 0
    while extra > 0:
        extra -= max(1, math.floor(extra * cooldown.step_factor))
        found += extra * cooldown.step_interval_s
    return found
