"""The first half of a spike's saga: whether it is acted upon, and what it will ask of which target."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from groundswell_operator.planning import admission
from groundswell_operator.planning.raising import Baseline, Demand, Wanted, affordable, wanted
from groundswell_operator.policies import APPS, DEPLOYMENT, STATEFUL_SET, Mode, OnExhausted, Policy, Scale, Via
from groundswell_operator.saga import accounting, claims, configuring
from groundswell_operator.saga.conditions import with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import (
    LIVE,
    NOTIFY_ONLY,
    OVER,
    Claim,
    Governing,
    Patched,
    Phase,
    Progress,
    Scaled,
    Spike,
)

CLAMPED, ACTIONS_UNUSABLE = "Clamped", "ActionsUnusable"
PARTLY = (CLAMPED, ACTIONS_UNUSABLE)
"""Why a spike is admitted that does not get all that its policy is for: the rest follows once it can be had."""


def considered(spike: Spike, governing: Governing, state: Namespace, places: Sequence[str], now_s: float) -> Progress:
    """The progress of a spike that has no place yet; the same again while it waits for one. `places` are those of its policy."""
    policy, progress = governing.policy, spike.progress
    if _waited_too_long(spike, policy, now_s):
        message = f"waited for {policy.budget.spike_duration_s_max:.0f} s, which is as long as a spike may last"
        return _refused(progress, "WaitedTooLong", message, now_s)
    if spike.over_s is not None:
        return _refused(progress, "OverBefore", "was over before it was acted upon", now_s)
    if not admission.matches(policy.match, spike.evidence):
        return _waits(progress, Phase.PENDING, "NoMatch", "is not one that the policy is for", now_s)
    if policy.mode is Mode.APPROVE and spike.name not in governing.approved:
        message = f"waits for the policy's annotation groundswell.dev/approve={spike.name}"
        return _waits(progress, Phase.AWAITING_APPROVAL, "AwaitingApproval", message, now_s)
    if spike.name not in places:
        return _without_place(spike, governing, state, now_s)
    before = places[: places.index(spike.name)]
    if any(state.spikes[each].progress.phase not in LIVE for each in before):
        return progress  # one at a time: what the bigger one takes of the budget is known afterwards
    return _admitted(spike, governing, state, now_s)


def _waited_too_long(spike: Spike, policy: Policy, now_s: float) -> bool:
    """Whether it would be over by now, had it been raised at once: nobody may have said that it is."""
    return now_s - spike.created_s >= policy.budget.spike_duration_s_max


def places(governing: Governing, state: Namespace, now_s: float, out: Collection[str] = ()) -> Sequence[str]:
    """The spikes that keep or get a place in a policy's budget, those that have one first; none of those that are `out` gets one.

    One that was only observed keeps its place while the policy observes: of those that act it takes none.
    """
    found = [each for each in _candidates(governing, state, now_s) if each.has_place or each.id not in out]
    return admission.admitted(found, governing.policy.budget.concurrent_spikes_max)


def _candidates(governing: Governing, state: Namespace, now_s: float) -> Iterable[admission.Spike]:
    policy = governing.policy
    for each in state.of_policy.get(policy.name, ()):
        phase = each.progress.phase
        if phase in OVER or each.deleted_s is not None:
            continue
        if each.progress.has_place and (each.acts or policy.mode is Mode.OBSERVE):
            yield dataclasses.replace(each.evidence, has_place=True)
        elif (
            phase not in LIVE
            and each.over_s is None
            and not _waited_too_long(each, policy, now_s)
            and admission.matches(policy.match, each.evidence)
            and (policy.mode is not Mode.APPROVE or each.name in governing.approved)
        ):
            yield each.evidence


def _refused(progress: Progress, reason: str, message: str, now_s: float) -> Progress:
    conditions = with_condition(progress.conditions, "Admitted", False, reason, message, now_s)
    return dataclasses.replace(progress, phase=Phase.REJECTED, conditions=conditions)


def _waits(progress: Progress, phase: Phase, reason: str, message: str, now_s: float) -> Progress:
    conditions = with_condition(progress.conditions, "Admitted", False, reason, message, now_s)
    return dataclasses.replace(progress, phase=phase, conditions=conditions)


def _without_place(spike: Spike, governing: Governing, state: Namespace, now_s: float) -> Progress:
    budget = governing.policy.budget
    message = f"{budget.concurrent_spikes_max} bigger or earlier spikes have the places of the budget"
    if budget.on_exhausted is OnExhausted.CLAMP:
        return _waits(spike.progress, Phase.PENDING, "BudgetExhausted", message, now_s)
    if budget.on_exhausted is OnExhausted.REJECT:
        return _refused(spike.progress, "BudgetExhausted", message, now_s)
    return _admitted(spike, governing, state, now_s, has_place=False)


def _admitted(
    spike: Spike, governing: Governing, state: Namespace, now_s: float, *, has_place: bool = True
) -> Progress:
    policy, plan = governing.policy, _planned(governing, state, now_s, has_place=has_place)
    if not plan.is_covered and policy.budget.on_exhausted is OnExhausted.REJECT:
        return _refused(spike.progress, "BudgetExhausted", "the budget does not cover what it asks for", now_s)
    reason = plan.reason if has_place else NOTIFY_ONLY
    return dataclasses.replace(
        spike.progress,
        phase=Phase.RAISING,
        mode=policy.mode,
        claims=[] if reason == NOTIFY_ONLY else plan.claims,  # what is only told of touches and remembers nothing
        patches=plan.patches,
        conditions=with_condition(spike.progress.conditions, "Admitted", True, reason, plan.message, now_s),
        decided_s=now_s,
    )


def admitted_further(
    spike: Spike, progress: Progress, governing: Governing, state: Namespace, now_s: float
) -> Progress:
    """The progress of a live spike with what it could not have when it was admitted and can by now; nothing of it becomes less.

    At one look all spikes of a policy come to the same figures, so together they take no more than the budget covers. What was left over
    by rounding then is no reason for further writes.
    """
    policy, admitted = governing.policy, progress.conditions.get("Admitted")
    if not spike.acts or policy.mode is Mode.OBSERVE or admitted is None or admitted.reason not in PARTLY:
        return progress
    plan = _planned(governing, state, now_s)
    known = {*(each.action for each in progress.claims), *(each.action for each in progress.patches)}
    claims_now = [_further(each, plan) for each in progress.claims]
    claims_now += [each for each in plan.claims if each.action not in known]
    patches = [each for each in plan.patches if each.action not in known]
    before = {each.action: each.desired for each in progress.claims}
    more = sum(each.desired - before.get(each.action, each.baseline.replicas) for each in claims_now)
    if not patches and (more == 0 or (more < len(claims_now) and not plan.is_covered)):
        return progress
    if not plan.is_covered and policy.budget.on_exhausted is not OnExhausted.CLAMP:
        return progress
    return dataclasses.replace(
        progress,
        phase=Phase.RAISING,
        claims=claims_now,
        patches=[*progress.patches, *patches],
        conditions=with_condition(progress.conditions, "Admitted", True, plan.reason, plan.message, now_s),
    )


def _further(claim: Claim, plan: Plan) -> Claim:
    """A claim with what its plan covers by now, if that is more."""
    for each in plan.claims:
        if (each.action, each.target) == (claim.action, claim.target) and each.desired > claim.desired:
            return dataclasses.replace(claim, max=each.max, desired=each.desired, applied_s=None, ready_s=None)
    return claim


@dataclass(frozen=True, slots=True)
class Plan:
    """What a spike that is admitted now asks for, as far as the budget covers it and targets can be raised."""

    claims: Sequence[Claim]
    patches: Sequence[Patched]
    is_covered: bool
    reason: str
    message: str


def _planned(governing: Governing, state: Namespace, now_s: float, *, has_place: bool = True) -> Plan:
    """Without a place it gets nothing of the budget."""
    policy, acts = governing.policy, governing.policy.mode is not Mode.OBSERVE
    usable = [(scale, state.targets[scale.target]) for scale in policy.scales if not unusable(scale, state)]
    baselines = {scale.name: _baseline(scaled, state, acts) for scale, scaled in usable}
    figures = {scale.name: _wanted(scale, scaled, baselines[scale.name], governing, state) for scale, scaled in usable}
    asked = {name: figure.replicas for name, figure in figures.items()}
    covered = {name: each.replicas for name, each in baselines.items()}
    if has_place:
        covered = _covered(governing, state, usable, baselines, asked, now_s)
    drafts = [
        _claim(scale, scaled, baselines[scale.name], covered[scale.name], overlapping(scale, governing, state))
        for scale, scaled in usable
    ]
    patches = [configuring.claimed(each, state) for each in policy.patches if not configuring.unusable(each, state)]
    words = [_said(claim, figures[claim.action], policy.name) for claim in drafts]
    words += [f"sets {configuring.said(each)}" for each in patches] + [f"tells {each.name}" for each in policy.notices]
    left_out = unusable_actions(governing, state)
    reason = ACTIONS_UNUSABLE if left_out else "Admitted"
    if covered != asked:
        reason = CLAMPED if policy.budget.on_exhausted is OnExhausted.CLAMP else NOTIFY_ONLY
    return Plan(drafts, patches, covered == asked, reason, "; ".join([*words, *left_out]))


def unusable(scale: Scale, state: Namespace) -> str:
    """Why a target cannot be scaled; empty when it can."""
    if scale.elsewhere:
        return f"{scale.target.kind} {scale.target.name} is in the namespace {scale.elsewhere}, not in the policy's own"
    if scale.target.kind not in (DEPLOYMENT, STATEFUL_SET) or scale.target.api_version != APPS:
        return f"{scale.target.kind} {scale.target.name} is of a kind that is not scaled"
    scaled = state.targets.get(scale.target)
    if scaled is None:
        return f"{scale.target.kind} {scale.target.name} does not exist"
    if scale.target in state.frozen:
        return f"{scale.target.name} may be held by {state.frozen[scale.target]}, which cannot be read"
    if scaled.partitions == 0:
        return f"the partitions that are annotated on {scale.target.name} are no number of 1 or more"
    if scaled.autoscaler is not None and scaled.autoscaler.unusable:
        return f"{scale.target.name} cannot be raised: {scaled.autoscaler.unusable}"
    if scaled.autoscaler is not None and scale.via is Via.SCALE_SUBRESOURCE:
        return f"an autoscaler governs {scale.target.name}: it is raised by its floor only"
    return ""


def figure(scale: Scale, governing: Governing, state: Namespace) -> Wanted:
    """What a spike that came now would ask of a target that can be scaled, and what keeps it from more."""
    scaled = state.targets[scale.target]
    return _wanted(scale, scaled, _baseline(scaled, state, governing.policy.mode is not Mode.OBSERVE), governing, state)


def unusable_actions(governing: Governing, state: Namespace) -> list[str]:
    """Why actions of a policy cannot be carried out, one reason for each that cannot."""
    policy = governing.policy
    reasons = [unusable(each, state) for each in policy.scales]
    reasons += [configuring.unusable(each, state) for each in policy.patches]
    return [each for each in reasons if each]


def _baseline(scaled: Scaled, state: Namespace, acts: bool) -> Baseline:
    """What was there before the first live spike touched it, or what somebody else has set since: that is about to be overwritten."""
    held = claims.on(state, scaled.target)
    if not acts or not held.claims:
        return claims.natural(scaled, claims.before_kept(state, scaled))
    _, earlier = held.claims[0]
    return claims.rebased(earlier, scaled, held.figure).baseline


def _wanted(scale: Scale, scaled: Scaled, baseline: Baseline, governing: Governing, state: Namespace) -> Wanted:
    demands = [Demand(governing.policy.name, scale.multiplier, scale.max)]
    demands += [Demand(name, 1, most) for name, most in overlapping(scale, governing, state).items()]
    return wanted(baseline, demands, scaled.partitions)


def overlapping(scale: Scale, governing: Governing, state: Namespace) -> dict[str, int]:
    """The most that other policies let a target have, by their names: of those that act, and of those whose spikes still hold it."""
    found = {spike.policy: claim.max for spike, claim in claims.on(state, scale.target).claims}
    found |= state.maxima.get(scale.target, {})
    return {name: most for name, most in sorted(found.items()) if name != governing.policy.name}


def _covered(
    governing: Governing,
    state: Namespace,
    usable: Iterable[tuple[Scale, Scaled]],
    baselines: dict[str, Baseline],
    asked: dict[str, int],
    now_s: float,
) -> dict[str, int]:
    """What the budget covers of the figures; what the policy's other spikes hold of a target already costs nothing more."""
    policy = governing.policy
    already = {
        scale.name: dataclasses.replace(
            baselines[scale.name],
            replicas=min(
                asked[scale.name],
                max(
                    [baselines[scale.name].replicas]
                    + [c.desired for s, c in claims.on(state, scaled.target).asking if s.policy == policy.name]
                ),
            ),
        )
        for scale, scaled in usable
    }
    held = claims.extra(state, policy.name)
    left = accounting.allowance(policy, governing.notes.budget, held, now_s)
    return affordable(already, asked, left, policy.budget.on_exhausted)


def _claim(scale: Scale, scaled: Scaled, baseline: Baseline, desired: int, others: Mapping[str, int]) -> Claim:
    scaler = scaled.autoscaler
    return Claim(
        action=scale.name,
        order=scale.order,
        target=scale.target,
        baseline=baseline,
        version=scaler.version if scaler else scaled.version,
        max=min(scale.max, *others.values()) if others else scale.max,
        desired=desired,
        ready=min(scaled.ready, desired),
    )


def _said(claim: Claim, figure: Wanted, policy: str) -> str:
    said = f"{claim.target.name} {claim.baseline.replicas} → {claim.desired}"
    if claim.desired < figure.replicas:
        said += f" of {figure.replicas}, which the budget does not cover"
    elif figure.limited_by:
        said += f", the most that {' and '.join(figure.limited_by)} let it have"
        said += "" if policy in figure.limited_by else f", which is less than {policy} does"
    elif figure.limited_by_partitions:
        said += ", one for each partition that it reads"
    return said
