"""What live spikes ask of a target together, and whether a target has been given back."""

from __future__ import annotations

import dataclasses
import enum

from groundswell_operator.planning.raising import Baseline, SetFloor
from groundswell_operator.policies import Target
from groundswell_operator.saga.namespace import Held, Namespace
from groundswell_operator.saga.state import Autoscaler, Claim, Scaled

NOTHING = Held()


def on(state: Namespace, target: Target) -> Held:
    """The claims that writes to a target follow from."""
    return state.held.get(target, NOTHING)


def current(scaled: Scaled) -> Baseline:
    """What a target has now."""
    scaler = scaled.autoscaler
    if scaler is None:
        return Baseline(scaled.replicas)
    return Baseline(scaled.replicas, scaler.floor, scaler.ceiling, scaler.floor_set, scaler.ceiling_set)


def natural(scaled: Scaled, kept: int | None = None) -> Baseline:
    """What a target has by itself; `kept` are its replicas from before a raise that was kept, whose floor says nothing of the load.

    An autoscaler is slow to leave what an earlier raise brought: multiplied, it would be too much.

    What is below its floor is on its way there, as right after an install. One pod is left of those that run, though the floor be none:
    whether there is nothing to do is not said by metrics alone. A target at none is switched off, and stays so.
    """
    found, scaler = current(scaled), scaled.autoscaler
    if scaler is None or scaled.replicas == 0:
        return found
    if kept is not None:
        called_for = kept if scaler.wants is None else max(1, min(scaled.replicas, scaler.wants))
        return dataclasses.replace(found, replicas=called_for)
    least = max(scaler.floor, 1)
    if scaler.wants is None and not scaled.replicas_ours:
        return dataclasses.replace(found, replicas=max(scaled.replicas, least))
    return dataclasses.replace(found, replicas=max(least, min(scaled.replicas, scaler.wants or 0)))


def before_kept(state: Namespace, scaled: Scaled) -> int | None:
    """The replicas that a target had before the last raise that was kept, while its floor is still what that left; otherwise None."""
    scaler = scaled.autoscaler
    if scaler is None or not scaler.floor_ours or scaler.floor_shared:
        return None
    left = [
        (spike.progress.restored_s or 0.0, claim)
        for spike in state.spikes.values()
        if spike.progress.is_kept and spike.acts
        for claim in spike.progress.claims
        if claim.target == scaled.target
    ]
    for _, claim in sorted(left, key=lambda each: each[0])[-1:]:
        if scaler.floor == max(claim.desired, claim.baseline.floor or 0):
            return claim.baseline.replicas
    return None


def rebased(claim: Claim, scaled: Scaled, wanted: int) -> Claim:
    """The claim, with what somebody else has set meanwhile as the baseline: it is about to be overwritten."""
    baseline, scaler = claim.baseline, scaled.autoscaler
    if scaler is None:
        if baseline.floor is None and not scaled.replicas_ours and scaled.replicas < wanted:
            baseline = dataclasses.replace(baseline, replicas=scaled.replicas)
    elif not scaler.hidden:
        if not scaler.floor_ours and scaler.floor < wanted:
            baseline = dataclasses.replace(baseline, floor=scaler.floor, floor_set=scaler.floor_set)
        if not scaler.ceiling_ours and scaler.ceiling < wanted:
            baseline = dataclasses.replace(baseline, ceiling=scaler.ceiling, ceiling_set=scaler.ceiling_set)
    return claim if baseline == claim.baseline else dataclasses.replace(claim, baseline=baseline)


def reached(claim: Claim, scaled: Scaled, wanted: int) -> bool:
    """Whether the target is set to what the claim asks for, as far as other policies let it."""
    asked = min(claim.desired, wanted)
    floor_up = scaled.autoscaler is None or scaled.autoscaler.floor >= asked
    return floor_up and scaled.replicas >= asked


class Return(enum.Enum):
    """How far a target's return has come, for one claim."""

    WAITS = "something is left to be written"
    DONE = "as it was before"
    CHANGED = "somebody else has changed it meanwhile"


def returned(claim: Claim, state: Namespace) -> Return:
    """Whether what a claim raised has been given back, or is another claim's now."""
    scaled = state.targets.get(claim.target)
    if scaled is None or on(state, claim.target).asking:
        return Return.DONE
    scaler, baseline = scaled.autoscaler, claim.baseline
    if scaler is None or baseline.floor is None:
        same, shared = scaled.replicas == baseline.replicas, False
        ours = scaler is None and replicas_ours(baseline, scaled)  # those of an autoscaler that came meanwhile are its
    elif scaler.hidden:
        return Return.WAITS
    else:
        same = bounds(scaler) == restored_bounds(baseline, scaler)
        ours, shared = scaler.floor_ours or raised_ceiling(baseline, scaler), scaler.floor_shared
    if ours and (shared or not same):
        return Return.WAITS
    return Return.DONE if same else Return.CHANGED


def replicas_ours(baseline: Baseline, scaled: Scaled) -> bool:
    """Whether the replicas without an autoscaler are our doing: we wrote them, or one that is gone did, since we had set its floor."""
    return scaled.replicas_ours or (baseline.floor is not None and scaled.replicas_by_autoscaler)


def bounds(scaler: Autoscaler) -> SetFloor:
    """The write that would change nothing."""
    return SetFloor(scaler.floor, scaler.ceiling, scaler.floor_set, scaler.ceiling_set)


def raised_ceiling(baseline: Baseline, scaler: Autoscaler) -> bool:
    """Whether the ceiling is ours alone, and not what it was; it may be so though the floor is another's by now."""
    before = restored_bounds(baseline, scaler)
    alone = scaler.ceiling_ours and not scaler.ceiling_shared
    return alone and (scaler.ceiling, scaler.ceiling_set) != (before.ceiling, before.ceiling_set)


def restored_bounds(baseline: Baseline, scaler: Autoscaler) -> SetFloor:
    """What gives the baseline back by value, where the value is still ours; what was not set is unset again.

    A floor that somebody else has set meanwhile stays, or is given back where it was overwritten; and no ceiling goes below it.
    """
    floor, ceiling, ceiling_set = baseline.floor, scaler.ceiling, scaler.ceiling_set
    assert floor is not None
    if scaler.ceiling_ours and baseline.ceiling is not None:
        least = floor if scaler.floor_ours and not scaler.floor_shared else scaler.floor
        ceiling, ceiling_set = max(baseline.ceiling, least), baseline.ceiling_set or least > baseline.ceiling
    return SetFloor(min(floor, ceiling), ceiling, baseline.floor_set, ceiling_set)


def ceiling_left(baseline: Baseline, scaled: Scaled) -> int:
    """The most replicas that a target can have once its baseline is given back."""
    scaler = scaled.autoscaler
    if scaler is None:
        return baseline.replicas
    return scaler.ceiling if baseline.floor is None else restored_bounds(baseline, scaler).ceiling


def extra(state: Namespace, policy: str) -> int:
    """The replicas that a policy holds beyond the baselines, each target's largest claim counted; those of a deleted spike until they are
    given back."""
    largest: dict[Target, int] = {}
    for spike in state.acting:
        for claim in spike.progress.claims:
            if spike.policy == policy and (spike.deleted_s is None or returned(claim, state) is Return.WAITS):
                more = claim.desired - claim.baseline.replicas
                largest[claim.target] = max(largest.get(claim.target, 0), more)
    return sum(largest.values())
