"""What a policy's budget has been used for: replica-seconds of the UTC day, counted from what was held since the last look.

The figures are kept in the policy's status, so they survive restarts; what was raised while nobody looked is counted too.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from groundswell_operator.planning.raising import Allowance
from groundswell_operator.policies import Policy
from groundswell_operator.saga.state import Budget

DAY_S = 86_400


def brought_up(budget: Budget, now_s: float) -> Budget:
    """The budget with everything counted up to now; a new day begins at nothing."""
    day = datetime.fromtimestamp(now_s, UTC).date().isoformat()
    since_s = budget.accounted_s or now_s
    used = budget.replica_seconds
    if day != budget.day:
        used, since_s = 0.0, max(since_s, now_s - now_s % DAY_S)
    held_s = max(0.0, now_s - since_s)
    used = round(used + budget.extra_replicas * held_s, 3)
    return dataclasses.replace(budget, day=day, replica_seconds=used, accounted_s=max(now_s, since_s))


def spent(policy: Policy, budget: Budget, now_s: float) -> bool:
    """Whether the day's replica-minutes are used up."""
    return brought_up(budget, now_s).replica_seconds >= policy.budget.replica_minutes_day_max * 60


def allowance(policy: Policy, budget: Budget, held: int, now_s: float) -> Allowance:
    """What may be raised beyond what is held."""
    used_minutes = brought_up(budget, now_s).replica_seconds / 60
    whole = Allowance.of(policy.budget, policy.cooldown, used_minutes)
    return Allowance(max(0, whole.extra_replicas - held))
