"""The progress of one spike: what its status is to say, given all that is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from groundswell_operator.planning.lowering import Times, due, lowered
from groundswell_operator.planning.raising import WAIT_S_MAX
from groundswell_operator.policies import Policy
from groundswell_operator.saga import accounting, claims, configuring, notifying, observing, sourcing, targets
from groundswell_operator.saga.admitting import admitted_further, considered
from groundswell_operator.saga.claims import Return
from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.degrading import degraded
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import KEPT, LIVE, OVER, Claim, Governing, Phase, Progress, Scaled, Spike

QUARTERS = 4
"""Ready pods are written down when another quarter of a raise is ready: each pod would be a write."""
UNWRITTEN_S, UNWRITTEN_STEPS = 300.0, 5
"""How long a recorded step down is waited for that is not written, the longer of the two; then all that is left is recorded as one step, so
that what the spike does to others ends, and is written as one should that be possible again."""
UNTOLD = "Untold"
"""Why a raise is taken back where the status does not say: somebody else has written the phase."""


def advanced(spike: Spike, state: Namespace, places: Sequence[str], now_s: float) -> Progress:
    """What the spike's status is to say now; asked again with that in it, the same. `places` are those of its policy."""
    if spike.deleted_s is not None or spike.unread is not None or spike.policy in state.unread_policies:
        return spike.progress
    governing = state.policies.get(spike.policy)
    if spike.progress.phase in OVER:
        return _told_late(spike, governing, now_s)
    if spike.progress.phase in LIVE:
        return _live(spike, governing, state, now_s)
    if governing is None:
        message = f"no policy {spike.policy or '(it has no owner)'} is there"
        conditions = with_condition(spike.progress.conditions, "Admitted", False, "NoPolicy", message, now_s)
        return dataclasses.replace(spike.progress, conditions=conditions)
    return considered(spike, governing, state, places, now_s)


def _told_late(spike: Spike, governing: Governing | None, now_s: float) -> Progress:
    """The progress of one that is over: all that may change is who was told of it."""
    conditions = notifying.with_notified(spike.progress.conditions, spike, governing, now_s)
    if conditions is spike.progress.conditions:
        return spike.progress
    return dataclasses.replace(spike.progress, conditions=conditions)


def ends(progress: Progress, state: Namespace) -> dict[str, Return]:
    """How far the return of each action has come."""
    found = {each.action: claims.returned(each, state) for each in progress.claims}
    return found | {each.action: configuring.returned(each, state) for each in progress.patches}


def _live(spike: Spike, governing: Governing | None, state: Namespace, now_s: float) -> Progress:
    looked_at = [_looked_at(spike, claim, state, now_s) for claim in spike.progress.claims]
    reason = _ends(spike, governing, state, now_s)
    progress = _said(spike, looked_at, state, bool(reason), now_s)
    if progress.phase is Phase.RAISING and all(each.ready_s or _is_gone(each, state) for each in progress.claims):
        progress = dataclasses.replace(progress, phase=Phase.HOLDING)
    if not reason and (governing is None or spike.over_s is not None or progress.phase is Phase.COOLING_DOWN):
        return progress
    if governing is not None and not reason:
        return admitted_further(spike, progress, governing, state, now_s)
    if governing is not None and not governing.policy.restores:
        return _ended(progress, True, KEPT, "the policy keeps what was raised", now_s)
    return _cooled(spike, progress, governing, state, reason, now_s)


def _looked_at(spike: Spike, claim: Claim, state: Namespace, now_s: float) -> Claim:
    """The claim with what its target shows now. A spike that only observes sees what happens without it."""
    scaled = state.targets.get(claim.target)
    if scaled is None:
        return claim
    if not spike.acts:
        claim = observing.observed(claim, scaled, spike.progress.decided_s or now_s, now_s)
    wanted = claims.on(state, claim.target).figure if spike.acts else claim.desired
    if spike.acts:
        claim = claims.rebased(claim, scaled, wanted)
        if claim.applied_s is None and claims.reached(claim, scaled, wanted):
            claim = dataclasses.replace(claim, applied_s=_written_s(spike, scaled) or now_s)
    up = min(claim.desired, wanted) if wanted else claim.desired
    if claim.ready_s is None and (claim.applied_s or not spike.acts) and scaled.ready >= up:
        claim = dataclasses.replace(claim, ready_s=now_s)
    if _quarter(claim, scaled.ready) != _quarter(claim, claim.ready):
        claim = dataclasses.replace(claim, ready=min(scaled.ready, claim.desired))
    return claim


def _quarter(claim: Claim, ready: int) -> int:
    extra = claim.desired - claim.baseline.replicas
    return QUARTERS * (min(ready, claim.desired) - claim.baseline.replicas) // extra if extra > 0 else 0


def _is_gone(claim: Claim, state: Namespace) -> bool:
    return claim.target not in state.targets


def _said(spike: Spike, looked_at: Sequence[Claim], state: Namespace, steps: bool, now_s: float) -> Progress:
    """The progress with what its targets show, its conditions and times; `steps` is whether a step down is due."""
    progress, found = spike.progress, [each for each in looked_at if not _is_gone(each, state)]
    conditions = _scaled(spike, progress, found, state, now_s)
    if spike.acts and _asks(found) and all(each.ready_s for each in found):
        conditions = with_condition(conditions, "CapacityReady", True, "Ready", "all that was raised was ready", now_s)
    comes_down = steps or spike.over_s is not None or progress.phase is Phase.COOLING_DOWN
    conditions = degraded(conditions, spike, looked_at, state, comes_down, now_s)
    conditions = configuring.with_configured(conditions, spike, state, now_s)
    conditions = notifying.with_notified(conditions, spike, state.policies.get(spike.policy), now_s)
    touched = [state.targets[each.target] for each in found if spike.acts and _touched(each, state)]
    first_s = min((_written_s(spike, each) or now_s for each in touched), default=None)
    return dataclasses.replace(
        progress,
        claims=looked_at,
        patches=[configuring.rebased(each, state) for each in progress.patches],
        conditions=conditions,
        first_write_s=progress.first_write_s or first_s,
        ready_s=progress.ready_s or (now_s if "CapacityReady" in conditions else None),
    )


def _scaled(spike: Spike, progress: Progress, found: Sequence[Claim], state: Namespace, now_s: float) -> Conditions:
    """Nothing is said while the first writes are only on their way: they wait for what is recorded."""
    asked = ", ".join(f"{each.target.name} {each.desired}" for each in progress.claims)
    status, reason = False, "Raising"
    if not spike.acts:
        reason = "WouldRaise"
    elif progress.phase is Phase.COOLING_DOWN:
        return progress.conditions
    elif not _asks(found):
        reason = "NothingRaised"
    elif all(_is_up(each, state) for each in found):
        status, reason = True, "FloorRaised"
    elif "Scaled" not in progress.conditions and now_s - (progress.decided_s or now_s) < WAIT_S_MAX:
        return progress.conditions
    return with_condition(progress.conditions, "Scaled", status, reason, asked, now_s)


def _asks(found: Sequence[Claim]) -> bool:
    return any(each.asks for each in found)


def _is_up(claim: Claim, state: Namespace) -> bool:
    figure = claims.on(state, claim.target).figure
    return claims.reached(claim, state.targets[claim.target], figure)


def _written_s(spike: Spike, scaled: Scaled) -> float | None:
    """When a target was written for a spike, where that was a moment ago; None where it was before, by another process or for another."""
    written_s, since_s = scaled.written_s, spike.progress.decided_s
    return written_s if written_s is not None and since_s is not None and written_s >= since_s else None


def _touched(claim: Claim, state: Namespace) -> bool:
    """Whether something was raised for it, or for another claim on its target."""
    scaled, baseline = state.targets[claim.target], claim.baseline
    scaler = scaled.autoscaler
    if scaler is None or baseline.floor is None:
        return scaled.replicas_ours and scaled.replicas > baseline.replicas
    return scaler.floor_ours and scaler.floor > baseline.floor


def _ends(spike: Spike, governing: Governing | None, state: Namespace, now_s: float) -> str:
    """Why the raise is to be taken back now; empty while it is held."""
    if governing is None:
        return "PolicyGone"
    policy, progress = governing.policy, spike.progress
    if progress.phase is Phase.COOLING_DOWN and not _asks(progress.claims):
        began = progress.conditions.get("CoolingDown")
        return began.reason if began else UNTOLD
    if governing.pauses.scale_in:
        return ""
    stepped_s = max((each.stepped_s for each in progress.claims if each.stepped_s), default=None)
    over_s = None if sourcing.is_lost(governing, state, now_s) else spike.over_s
    times = Times(progress.decided_s or now_s, over_s, stepped_s)
    if due(policy.cooldown, policy.budget.spike_duration_s_max, times, now_s):
        return "Quiet" if over_s is not None else "TooLong"
    if spike.acts and _unpaid(policy, governing, times, now_s):
        return "BudgetSpent"
    return ""


def _unpaid(policy: Policy, governing: Governing, times: Times, now_s: float) -> bool:
    """Whether the day's budget is spent, and what was raised has been held for the least time."""
    if not accounting.spent(policy, governing.notes.budget, now_s):
        return False
    over_now = dataclasses.replace(times, over_s=times.raised_s)
    quiet = dataclasses.replace(policy.cooldown, quiet_period_s=0)
    return due(quiet, policy.budget.spike_duration_s_max, over_now, now_s)


def _cooled(
    spike: Spike, progress: Progress, governing: Governing | None, state: Namespace, reason: str, now_s: float
) -> Progress:
    if not spike.acts:
        cooldown, decided_s = governing.policy.cooldown if governing else None, progress.decided_s or now_s
        seen = [observing.ended(each, cooldown, decided_s, now_s) for each in progress.claims]
        progress = dataclasses.replace(progress, claims=seen)
        return _ended(progress, True, "NothingWritten", "the policy only observes", now_s)
    before = progress.conditions.get("CoolingDown")
    reason = before.reason if before and governing else reason
    stepped = [_stepped(each, governing, state, now_s) for each in progress.claims]
    conditions = with_condition(progress.conditions, "CoolingDown", True, reason, "is taken back in steps", now_s)
    if _asks(stepped):
        if stepped == list(progress.claims):
            return progress  # what the autoscalers want, or do not say, keeps everything up
        return dataclasses.replace(progress, phase=Phase.COOLING_DOWN, claims=stepped, conditions=conditions)
    progress = dataclasses.replace(progress, phase=Phase.COOLING_DOWN, claims=stepped, conditions=conditions)
    if not _recorded_low(spike):
        return progress  # recorded first, written afterwards
    found = ends(progress, state)
    if Return.WAITS in found.values():
        return progress
    if message := changed(found):
        return _ended(progress, False, "BaselineChanged", message, now_s)
    return _ended(progress, True, "BaselineRestored", "what was there before is there again", now_s)


def changed(found: Mapping[str, Return]) -> str:
    """What somebody else has changed meanwhile, in a sentence; empty when nothing."""
    names = sorted(action for action, end in found.items() if end is Return.CHANGED)
    return f"somebody else has changed {', '.join(names)} meanwhile: it stays as it is" if names else ""


def _recorded_low(spike: Spike) -> bool:
    return spike.progress.phase is Phase.COOLING_DOWN and not _asks(spike.progress.claims)


def _stepped(claim: Claim, governing: Governing | None, state: Namespace, now_s: float) -> Claim:
    scaled = state.targets.get(claim.target)
    if governing is None or scaled is None:
        return dataclasses.replace(claim, desired=min(claim.desired, claim.baseline.replicas))
    if scaled.pauses.scale_in or not claim.asks:
        return claim
    cooldown = governing.policy.cooldown
    if targets.comes_down(state, scaled):  # two steps of which the first was not written would be written as one
        since_s = claim.stepped_s or now_s
        if now_s - since_s < max(UNWRITTEN_S, UNWRITTEN_STEPS * cooldown.step_interval_s):
            return dataclasses.replace(claim, stepped_s=since_s)
        return dataclasses.replace(claim, desired=claim.baseline.replicas, stepped_s=now_s)
    wants = scaled.autoscaler.wants if scaled.autoscaler else claim.baseline.replicas
    ceiling = claims.ceiling_left(claim.baseline, scaled)
    low = lowered(claim.desired, claim.baseline.replicas, wants, ceiling, cooldown.step_factor)
    return claim if low == claim.desired else dataclasses.replace(claim, desired=low, stepped_s=now_s)


def _ended(progress: Progress, restored: bool, reason: str, message: str, now_s: float) -> Progress:
    conditions = with_condition(progress.conditions, "Restored", restored, reason, message, now_s)
    if "CoolingDown" in conditions:
        conditions = with_condition(conditions, "CoolingDown", False, reason, "", now_s)
    return dataclasses.replace(progress, phase=Phase.RESTORED, conditions=conditions, restored_s=now_s)
