"""One spike from its detection to its end, decided by what the operator decides by, in memory. Times are seconds from the detection."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from groundswell_operator.policies import Mode, Target
from groundswell_operator.saga import claims, imagining, notifying
from groundswell_operator.saga.deciding import decide
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import OVER, Progress
from groundswell_operator.saga.steps import Notify, SetKeys, Write

SECONDS_MAX = 48 * 3600
"""A rehearsal ends after so long, whatever has become of the spike."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody knows beforehand."""

    lasts_s: int
    """After which the spike is over."""
    ready_s: int
    """From a pod's order to its being ready."""


@dataclass(slots=True)
class Rehearsal:
    """What came of it."""

    steps: list[tuple[int, Write | SetKeys | Notify]] = field(default_factory=list)
    """In their order."""
    admitted: str = ""
    """What was decided about the spike."""
    progress: Progress = field(default_factory=Progress)
    """The spike's in the end."""
    ready_s: int | None = None
    """When all that was raised was ready."""
    ended_s: int | None = None
    """When what was there before was there again."""
    extra_max: int = 0
    """Replicas beyond those that were there, at most."""
    replica_seconds: int = 0
    """Of them, over the time."""


def rehearsed(state: Namespace, name: str, assumed: Assumed) -> Rehearsal:
    """What becomes of a spike. The load is taken to be what it was again once it is over, and autoscalers to want no more till then."""
    found, began_s = Rehearsal(), state.spikes[name].evidence.detected_s
    state = _acting(state, name)
    ordered: dict[tuple[Target, int], int] = {}
    for second in range(SECONDS_MAX):
        now_s = began_s + second
        if second == assumed.lasts_s:
            state = imagining.with_spike(state, dataclasses.replace(state.spikes[name], over_s=now_s))
        state = _turned(state, ordered, second, assumed.ready_s)
        state = _decided(state, found, second, now_s)
        _counted(found, state, name, second)
        if found.progress.phase in OVER or found.progress.mode is None:
            break
    return found


def _acting(state: Namespace, name: str) -> Namespace:
    """With the policy as if it acted upon the spike, whatever its mode."""
    governing = state.policies[state.spikes[name].policy]
    policy = dataclasses.replace(governing.policy, mode=Mode.ENFORCE)
    return imagining.with_policy(state, dataclasses.replace(governing, policy=policy))


def _turned(state: Namespace, ordered: dict[tuple[Target, int], int], second: int, ready_s: int) -> Namespace:
    """What a cluster does within a second: autoscalers go to their floors, pods become ready so long after they were ordered in it."""
    for scaled in state.targets.values():
        scaler = scaled.autoscaler
        replicas = min(max(scaler.floor, scaler.wants or 0), scaler.ceiling) if scaler else scaled.replicas
        for number in range(scaled.ready, replicas):
            ordered.setdefault((scaled.target, number), second - 1)
        ready = min(scaled.ready, replicas)
        while ready < replicas and second - ordered[scaled.target, ready] >= ready_s:
            ready += 1
        if (replicas, ready) != (scaled.replicas, scaled.ready):
            state = imagining.with_target(state, dataclasses.replace(scaled, replicas=replicas, ready=ready))
        for gone in [each for each in ordered if each[0] == scaled.target and each[1] >= replicas]:
            del ordered[gone]
    return state


def _decided(state: Namespace, found: Rehearsal, second: int, now_s: float) -> Namespace:
    """All that is to be done at a moment."""
    while steps := [*decide(state, now_s), *notifying.due(state, now_s)]:
        for step in steps:
            state = imagining.taken(state, step, now_s)
            if isinstance(step, Write | SetKeys | Notify):
                found.steps.append((second, step))
    return state


def _counted(found: Rehearsal, state: Namespace, name: str, second: int) -> None:
    spike = state.spikes[name]
    found.progress = spike.progress
    admitted = spike.progress.conditions.get("Admitted")
    found.admitted = admitted.message if admitted else ""
    extra = claims.extra(state, spike.policy)
    found.extra_max = max(found.extra_max, extra)
    found.replica_seconds += extra
    if found.ready_s is None and spike.progress.ready_s is not None:
        found.ready_s = second
    if spike.progress.phase in OVER:
        found.ended_s = second
