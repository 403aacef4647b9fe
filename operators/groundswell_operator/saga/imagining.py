"""The state after a step, as an API server would hold it: for a plan that is only looked at, and for walks by the thousand."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Autoscaler, ConfigMap, Delivery, Governing, Scaled, Spike
from groundswell_operator.saga.steps import (
    Free,
    GiveUpFloor,
    Hold,
    LetGo,
    Note,
    Notify,
    Record,
    Remove,
    SetKeys,
    Step,
    Write,
)

T = TypeVar("T", Spike, Governing, Scaled, Autoscaler, ConfigMap)


def taken(state: Namespace, step: Step, now_s: float) -> Namespace:
    """The state with what a step changes; the objects that it changes are those that the state has now. A notice arrives."""
    if isinstance(step, Write):
        found = _written(state.targets[step.scaled.target], step)
        return with_target(state, dataclasses.replace(found, written_s=now_s))
    if isinstance(step, SetKeys):
        return with_config_map(state, _set(state.config_maps[step.config_map.name], step))
    if isinstance(step, Note):
        return with_policy(state, dataclasses.replace(state.policies[step.governing.policy.name], notes=step.notes))
    spike = state.spikes[step.spike.name]
    if isinstance(step, Record):
        return with_spike(state, dataclasses.replace(spike, progress=step.progress))
    if isinstance(step, Hold):
        return with_spike(state, dataclasses.replace(spike, held=True))
    if isinstance(step, Free):
        return with_spike(state, dataclasses.replace(spike, held=False))
    if isinstance(step, Notify):
        delivery = Delivery(repeats=step.repeats) if step.repeats else Delivery(1, now_s, now_s)
        return with_spike(state, dataclasses.replace(spike, notices={**spike.notices, step.notice.name: delivery}))
    return without_spike(state, step)


def with_spike(state: Namespace, spike: Spike) -> Namespace:
    """A spike under its next version; so for the others below."""
    return dataclasses.replace(state, spikes={**state.spikes, spike.name: following(spike)})


def without_spike(state: Namespace, step: LetGo | Remove) -> Namespace:
    kept = {name: each for name, each in state.spikes.items() if name != step.spike.name}
    return dataclasses.replace(state, spikes=kept)


def with_policy(state: Namespace, governing: Governing) -> Namespace:
    return dataclasses.replace(state, policies={**state.policies, governing.policy.name: following(governing)})


def with_target(state: Namespace, scaled: Scaled) -> Namespace:
    return dataclasses.replace(state, targets={**state.targets, scaled.target: scaled})


def with_config_map(state: Namespace, config_map: ConfigMap) -> Namespace:
    return dataclasses.replace(state, config_maps={**state.config_maps, config_map.name: following(config_map)})


def following(value: T) -> T:
    """The same under its next version."""
    return dataclasses.replace(value, version=str(int(value.version) + 1))


def _written(scaled: Scaled, step: Write) -> Scaled:
    change, scaler = step.change, scaled.autoscaler
    if isinstance(change, SetScale):
        return following(dataclasses.replace(scaled, replicas=change.replicas, replicas_ours=True))
    assert scaler is not None
    scaler = dataclasses.replace(scaler, floor_shared=False, floor_ours=False)
    scaler = _bounded(scaler, change) if isinstance(change, SetFloor) else _left(scaler, change)
    return dataclasses.replace(scaled, autoscaler=following(scaler))


def _left(scaler: Autoscaler, change: GiveUpFloor) -> Autoscaler:
    if not scaler.ceiling_ours or scaler.ceiling_shared:
        return dataclasses.replace(scaler, ceiling_ours=False, ceiling_shared=False)
    return dataclasses.replace(
        scaler, ceiling=change.ceiling, ceiling_set=change.ceiling_set, ceiling_ours=change.ceiling_set
    )


def _bounded(scaler: Autoscaler, change: SetFloor) -> Autoscaler:
    """A ceiling that stays as it is stays whose it is."""
    written = scaler.ceiling_ours or change.ceiling != scaler.ceiling
    return dataclasses.replace(
        scaler,
        floor=change.floor,
        floor_set=change.floor_set,
        floor_ours=change.floor_set,
        ceiling=change.ceiling,
        ceiling_set=change.ceiling_set if written else scaler.ceiling_set,
        ceiling_ours=written and change.ceiling_set,
    )


def _set(config_map: ConfigMap, step: SetKeys) -> ConfigMap:
    dropped = config_map.ours - step.values.keys() - config_map.shared
    data = {key: value for key, value in config_map.data.items() if key not in dropped} | dict(step.values)
    return dataclasses.replace(config_map, data=data, ours=frozenset(step.values), shared=frozenset())
