"""What keeps a spike from its pods. It is said with its numbers, and the rest of the plan goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Autoscaler, Claim, Spike


def degraded(
    conditions: Conditions, spike: Spike, found: Sequence[Claim], state: Namespace, comes_down: bool, now_s: float
) -> Conditions:
    """The conditions with what is wrong with the targets now; its reason is that of the first.

    `comes_down` is whether a return is due, or to be expected: what keeps it from coming is wrong then.
    """
    wrong = [each for claim in found for each in _wrong(claim, spike, state, comes_down)]
    if wrong:
        message = "; ".join(message for _, message in wrong)
        return with_condition(conditions, "Degraded", True, wrong[0][0], message, now_s)
    if "Degraded" in conditions:
        return with_condition(conditions, "Degraded", False, "Recovered", "", now_s)
    return conditions


def _wrong(claim: Claim, spike: Spike, state: Namespace, comes_down: bool) -> Iterator[tuple[str, str]]:
    """Reason and message of each thing that is wrong with a target."""
    scaled, name = state.targets.get(claim.target), claim.target.name
    if scaled is None:
        yield "TargetGone", f"{name} is gone"
        return
    if claim.baseline.floor is not None and scaled.autoscaler is None:
        yield "AutoscalerGone", f"the autoscaler of {name} is gone"
    if scaled.autoscaler is not None and scaled.autoscaler.unusable:
        yield "AutoscalerUnusable", f"the floor of {name} does not hold: {scaled.autoscaler.unusable}"
    if spike.acts and claim.asks and comes_down and _unknown(scaled.autoscaler):
        yield "MetricsUnknown", f"{name} is not lowered while its autoscaler does not know all of its metrics"
    if spike.acts and claim.asks and scaled.ready < claim.desired:
        for each in scaled.shortfalls:
            yield each.reason, f"{each.pods} of {scaled.replicas} pods of {name} are missing: {each.message}"


def _unknown(scaler: Autoscaler | None) -> bool:
    return scaler is not None and scaler.wants is None
