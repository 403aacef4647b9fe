"""What a policy's status is to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from groundswell_operator.policies import Mode
from groundswell_operator.saga import accounting, claims, sourcing
from groundswell_operator.saga.admitting import figure, overlapping, unusable, unusable_actions
from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import LIVE, Governing, Notes

DISMISSED_MAX = 100
"""Spikes that a policy remembers as dismissed: the last ones."""
ACCOUNT_S = 30.0
"""How often the use of a budget is written down while something is held; it is counted to the second all the same."""


def noted(governing: Governing, state: Namespace, now_s: float) -> Notes:
    """The status of a policy; the same again until something changes, or its budget has to be written down."""
    policy, before = governing.policy, governing.notes
    active = sum(each.lives for each in state.of_policy.get(policy.name, ()))
    held, budget = claims.extra(state, policy.name), before.budget
    overdue = budget.extra_replicas > 0 and now_s - budget.accounted_s >= ACCOUNT_S
    if held != budget.extra_replicas or overdue:
        budget = dataclasses.replace(accounting.brought_up(budget, now_s), extra_replicas=held)
    paused = governing.pauses.scale_in or governing.pauses.scale_out
    conditions = _conditions(governing, state, now_s)
    unready = not conditions["Ready"].status
    phase = "Paused" if paused else "Active" if active else "Invalid" if unready else "Idle"
    return Notes(phase, active, budget, conditions, _dismissed(governing, state, now_s))


def _dismissed(governing: Governing, state: Namespace, now_s: float) -> Mapping[str, float]:
    """Those that were deleted while they lived, for as long as a spike may last."""
    found = dict(governing.notes.dismissed)
    for each in state.of_policy.get(governing.policy.name, ()):
        lived = each.progress.phase in LIVE and each.over_s is None and each.held and each.acts
        if each.deleted_s is not None and lived:
            found.setdefault(each.name, each.deleted_s)
    recent = [
        (at_s, name) for name, at_s in found.items() if now_s - at_s < governing.policy.budget.spike_duration_s_max
    ]
    return {name: at_s for at_s, name in sorted(recent)[-DISMISSED_MAX:]}


def _conditions(governing: Governing, state: Namespace, now_s: float) -> Conditions:
    policy, generation = governing.policy, governing.generation
    found = governing.notes.conditions
    wrong = unusable_actions(governing, state)
    reason = "ActionsUnusable" if wrong else "Usable"
    found = with_condition(found, "Ready", not wrong, reason, "; ".join(wrong), now_s, generation)
    observes = policy.mode is Mode.OBSERVE
    found = with_condition(found, "DryRun", observes, policy.mode.value, "", now_s, generation)
    directions = [("in", governing.pauses.scale_in), ("out", governing.pauses.scale_out)]
    kept = ", ".join(f"nothing is scaled {way}" for way, is_paused in directions if is_paused)
    found = with_condition(found, "Paused", bool(kept), "Annotated" if kept else "NotPaused", kept, now_s, generation)
    left = accounting.allowance(policy, governing.notes.budget, claims.extra(state, policy.name), now_s)
    more = left.extra_replicas > 0
    message = "" if more else "nothing more is raised today, or until something is given back"
    reason = "Left" if more else "Exhausted"
    found = with_condition(found, "BudgetAvailable", more, reason, message, now_s, generation)
    found = sourcing.with_silence(found, governing, state, now_s)
    found = _with_overlaps(found, governing, state, now_s)
    return _with_caps(found, governing, state, now_s)


def _with_overlaps(found: Conditions, governing: Governing, state: Namespace, now_s: float) -> Conditions:
    """Whose maximum counts where another policy scales the same target; not said while there is none."""
    words = []
    for scale in governing.policy.scales:
        bounds = {governing.policy.name: scale.max} | overlapping(scale, governing, state)
        if len(bounds) > 1:
            each = ", ".join(f"{name} lets it have {most}" for name, most in sorted(bounds.items()))
            words.append(f"{scale.target.name} gets {min(bounds.values())} at most: {each}")
    if not words and "Overlapping" not in found:
        return found
    reason = "StricterMaxWins" if words else "NotOverlapping"
    message = "; ".join(words)
    return with_condition(found, "Overlapping", bool(words), reason, message, now_s, governing.generation)


def _with_caps(found: Conditions, governing: Governing, state: Namespace, now_s: float) -> Conditions:
    """Whether partitions keep targets from what their multipliers call for; not said where no target has any."""
    reading = [
        scale
        for scale in governing.policy.scales
        if not unusable(scale, state) and state.targets[scale.target].partitions is not None
    ]
    if not reading and "PartitionsReached" not in found:
        return found
    capped = [each for each in reading if figure(each, governing, state).limited_by_partitions]
    message = "; ".join(
        f"{each.target.name} gets {state.targets[each.target].partitions} at most, one for each partition that it reads"
        for each in capped
    )
    reason = "Capped" if capped else "NotReached"
    return with_condition(found, "PartitionsReached", bool(capped), reason, message, now_s, governing.generation)
