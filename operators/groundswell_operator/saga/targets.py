"""The foreign writes that are left, target by target: up to what its claims ask, down with them, back to the baseline in the end."""

from __future__ import annotations

from collections.abc import Iterator

from groundswell_operator.planning.raising import Baseline, Raise, SetFloor, SetScale, wave
from groundswell_operator.planning.raising import writes as raising_writes
from groundswell_operator.policies import Mode, Target
from groundswell_operator.saga import claims
from groundswell_operator.saga.namespace import Held, Namespace
from groundswell_operator.saga.state import Governing, Pauses, Phase, Scaled
from groundswell_operator.saga.steps import GiveUpFloor, Write


def writes(state: Namespace, now_s: float) -> list[Write]:
    """All that may be written now, in the order in which it must be."""
    asked = {
        target: found for target, found in state.held.items() if target in state.targets.keys() - state.frozen.keys()
    }
    parts = _parts(state, asked, now_s)
    found: list[Write] = []
    for target in sorted(asked, key=lambda each: (min(claim.order for _, claim in asked[each].claims), each.name)):
        found.extend(_of_target(state, state.targets[target], asked[target], parts.get(target, 0)))
    return found


def comes_down(state: Namespace, scaled: Scaled) -> bool:
    """Whether a step down is recorded that is still to be written."""
    asked = claims.on(state, scaled.target)
    return any(True for _, claim in asked.claims[:1] for _ in _down(scaled, claim.baseline, asked.figure))


def _parts(state: Namespace, asked: dict[Target, Held], now_s: float) -> dict[Target, int]:
    """How much of its figure each target gets now: what comes later in order gets half until the earlier is ready."""
    raises = {}
    for target, found in asked.items():
        held = found.asking
        if not held:
            continue
        since_s = max(spike.progress.decided_s or now_s for spike, _ in held)
        raises[str(target)] = Raise(
            order=min(claim.order for _, claim in held),
            baseline=min(claim.baseline.replicas for _, claim in held),
            figure=found.figure,
            ready=state.targets[target].ready,
            waited_s=now_s - since_s,
        )
    parts = wave(raises)
    return {target: parts[str(target)] for target in asked if str(target) in parts}


def _of_target(state: Namespace, scaled: Scaled, asked: Held, part: int) -> Iterator[Write]:
    pauses = _pauses(state, scaled, asked)
    figure = asked.figure
    if figure == 0:
        if not pauses.scale_in:
            yield from _back(scaled, asked.claims[0][1].baseline)
        return
    raised = list(_up(state, scaled, asked, part)) if not pauses.scale_out else []
    yield from raised
    if not raised and not pauses.scale_in and not _rises(asked):
        yield from _down(scaled, asked.claims[0][1].baseline, figure)


def _pauses(state: Namespace, scaled: Scaled, asked: Held) -> Pauses:
    found = [scaled.pauses, *(each.pauses for each in _governing(state, asked))]
    return Pauses(any(each.scale_in for each in found), any(each.scale_out for each in found))


def _governing(state: Namespace, asked: Held) -> Iterator[Governing]:
    for spike, _ in asked.claims:
        if spike.policy in state.policies:
            yield state.policies[spike.policy]


def _rises(asked: Held) -> bool:
    """Whether something is still to come up here; that a spike waits for its other targets keeps nothing of this one up."""
    return any(spike.progress.phase is Phase.RAISING and claim.ready_s is None for spike, claim in asked.asking)


def _up(state: Namespace, scaled: Scaled, asked: Held, part: int) -> Iterator[Write]:
    """What cools down is held at what it still asks. Nothing is raised once the policy only observes, nor what would not hold."""
    if scaled.autoscaler is not None and scaled.autoscaler.unusable:
        return
    may = any(
        spike.policy in state.policies and state.policies[spike.policy].policy.mode is not Mode.OBSERVE
        for spike, _ in asked.asking
    )
    if may:
        for change in raising_writes(claims.current(scaled), part):
            yield Write(scaled, change)


def _down(scaled: Scaled, baseline: Baseline, figure: int) -> Iterator[Write]:
    """One step; a floor that somebody else has set too is theirs, and stays."""
    scaler = scaled.autoscaler
    if scaler is not None and baseline.floor is not None:
        floor = max(figure, baseline.floor)
        if scaler.floor_ours and scaler.floor_shared and scaler.floor > floor:
            yield _left_to_others(scaled, baseline)
        elif scaler.floor_ours and scaler.floor > floor:
            ceiling = max(baseline.ceiling or 0, floor) if scaler.ceiling_ours else scaler.ceiling
            yield Write(scaled, SetFloor(floor, ceiling))
    elif scaler is None and claims.replicas_ours(baseline, scaled) and scaled.replicas > figure:
        yield Write(scaled, SetScale(figure))


def _back(scaled: Scaled, baseline: Baseline) -> Iterator[Write]:
    """The baseline by value, where the value is still ours; what somebody else set too is left to them."""
    scaler = scaled.autoscaler
    if scaler is not None and baseline.floor is not None:
        if scaler.floor_ours and not scaler.floor_shared:
            if claims.bounds(scaler) != (before := claims.restored_bounds(baseline, scaler)):
                yield Write(scaled, before)
        elif scaler.floor_ours or claims.raised_ceiling(baseline, scaler):
            yield _left_to_others(scaled, baseline)
    elif scaler is None and claims.replicas_ours(baseline, scaled) and scaled.replicas != baseline.replicas:
        yield Write(scaled, SetScale(baseline.replicas))


def _left_to_others(scaled: Scaled, baseline: Baseline) -> Write:
    """The floor is somebody else's too; the ceiling goes as far down as that lets it."""
    assert scaled.autoscaler is not None
    before = claims.restored_bounds(baseline, scaled.autoscaler)
    return Write(scaled, GiveUpFloor(before.ceiling, before.ceiling_set))
