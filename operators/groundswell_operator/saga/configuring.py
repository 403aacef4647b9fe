"""ConfigMaps: what live spikes set in them, and what was there before, given back by value.

Keys are held as floors are. Of two spikes that set the same key the one that was decided first has its way. Who sets a key meanwhile
finds it set again, and gets that value in the end; one that somebody else has set to the same value is left to them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from groundswell_operator.policies import Mode, Patch, is_name
from groundswell_operator.saga.claims import Return
from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import OVER, ConfigMap, Patched, Phase, Spike
from groundswell_operator.saga.steps import SetKeys

Holding = Sequence[tuple[Spike, Patched]]
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def unusable(patch: Patch, state: Namespace) -> str:
    """Why a ConfigMap cannot be patched; empty when it can."""
    if not is_name(patch.config_map):
        return f"{patch.name} names a ConfigMap that cannot be: {patch.config_map}"
    found = state.config_maps.get(patch.config_map)
    if found is None:
        return f"ConfigMap {patch.config_map} is not there, or not among those that the operator may change"
    if found.is_immutable:
        return f"ConfigMap {patch.config_map} is immutable"
    if patch.config_map in state.frozen:
        return f"ConfigMap {patch.config_map} may be held by {state.frozen[patch.config_map]}, which cannot be read"
    if not all(_KEY.fullmatch(key) for key in patch.values):
        return f"{patch.name} sets a key of ConfigMap {patch.config_map} that is not of letters, digits, -, _ and dots"
    return ""


def claimed(patch: Patch, state: Namespace) -> Patched:
    """What a spike that is admitted now sets, and what was there before the first that set it, or what somebody else has set since."""
    before = dict(state.config_maps[patch.config_map].data)
    holding = [(spike, rebased(patched, state)) for spike, patched in on(state, patch.config_map)]
    for key, value in _back(holding).items():
        before.pop(key, None)
        before |= {key: value} if value is not None else {}
    kept = {key: value for key, value in before.items() if key in patch.values}
    return Patched(patch.name, patch.config_map, patch.values, kept)


def rebased(patched: Patched, state: Namespace) -> Patched:
    """The patch, with what somebody else has set meanwhile as what was before: it is about to be overwritten."""
    config_map = state.config_maps.get(patched.config_map)
    if config_map is None:
        return patched
    before, wanted = dict(patched.before), _wanted(on(state, config_map.name), config_map, state)
    for key in patched.values.keys() - config_map.ours:
        if key not in wanted or config_map.data.get(key) == wanted[key]:
            continue
        before.pop(key, None)
        if key in config_map.data:
            before[key] = config_map.data[key]
    return patched if before == patched.before else dataclasses.replace(patched, before=before)


def with_configured(conditions: Conditions, spike: Spike, state: Namespace, now_s: float) -> Conditions:
    """The conditions with whether all values are there; nothing is said while they are only on their way."""
    patches = spike.progress.patches
    if not patches or not asks(spike):
        return conditions
    gone = sorted({each.config_map for each in patches if each.config_map not in state.config_maps})
    if gone:
        return with_condition(conditions, "Configured", False, "ConfigMapGone", f"{', '.join(gone)} is gone", now_s)
    if all(_is_set(each, state) for each in patches):
        return with_condition(conditions, "Configured", True, "ValuesSet", "; ".join(map(said, patches)), now_s)
    return conditions


def said(patched: Patched) -> str:
    """In a message: which keys, and not their values."""
    return f"{', '.join(sorted(patched.values))} in {patched.config_map}"


def on(state: Namespace, config_map: str) -> Holding:
    """What acting spikes that are not over set in a ConfigMap, the first decided first; deleted ones too."""
    return state.patches.get(config_map, ())


def asks(spike: Spike) -> bool:
    """Whether a spike's values are to be there: until what it raised has been taken back."""
    progress = spike.progress
    if not spike.acts or spike.deleted_s is not None or progress.phase in OVER:
        return False
    return progress.phase is not Phase.COOLING_DOWN or any(each.asks for each in progress.claims)


def writes(state: Namespace) -> list[SetKeys]:
    """What is left to be written."""
    found = []
    for name, config_map in sorted(state.config_maps.items()):
        holding = on(state, name)
        if not holding or name in state.frozen or any(_paused(spike, state) for spike, _ in holding):
            continue
        keys = _keys(config_map, holding, state)
        if keys != {key: config_map.data[key] for key in config_map.ours}:
            found.append(SetKeys(config_map, keys))
    return found


def returned(patched: Patched, state: Namespace) -> Return:
    """Whether what was set has been given back, or is another spike's now."""
    config_map = state.config_maps.get(patched.config_map)
    if config_map is None:
        return Return.DONE
    wanted = _wanted(on(state, config_map.name), config_map, state)
    ends = {_returned(key, patched, config_map) for key in patched.values.keys() - wanted.keys()}
    return next((each for each in (Return.WAITS, Return.CHANGED) if each in ends), Return.DONE)


def _returned(key: str, patched: Patched, config_map: ConfigMap) -> Return:
    same = config_map.data.get(key) == patched.before.get(key)
    if key in config_map.ours and (key in config_map.shared or not same):
        return Return.WAITS
    return Return.DONE if same else Return.CHANGED


def _wanted(holding: Holding, config_map: ConfigMap, state: Namespace) -> Mapping[str, str]:
    """The values that are to be there. Nothing new is set once the policy only observes, or is gone."""
    found: dict[str, str] = {}
    for spike, patched in holding:
        governing = state.policies.get(spike.policy)
        may = governing is not None and governing.policy.mode is not Mode.OBSERVE
        for key, value in patched.values.items() if asks(spike) else ():
            if may or config_map.data.get(key) == value:
                found.setdefault(key, value)
    return found


def _keys(config_map: ConfigMap, holding: Holding, state: Namespace) -> dict[str, str]:
    """All keys that are to be ours, with their values: an apply gives up what it leaves out."""
    wanted, back = _wanted(holding, config_map, state), _back(holding)
    kept: dict[str, str] = {}
    for key in config_map.ours - wanted.keys():
        value = back.get(key) if key in back else config_map.data[key]  # given back by value, earlier
        if value is not None and not (key in back and key in config_map.shared):
            kept[key] = value
    return kept | dict(wanted)


def _back(holding: Holding) -> Mapping[str, str | None]:
    """What was there before, by key; None where nothing was."""
    found: dict[str, str | None] = {}
    for _, patched in sorted(holding, key=lambda pair: pair[0].unawareness):
        for key in patched.values:
            found.setdefault(key, patched.before.get(key))
    return found


def _is_set(patched: Patched, state: Namespace) -> bool:
    config_map = state.config_maps[patched.config_map]
    wanted = _wanted(on(state, config_map.name), config_map, state)
    return all(config_map.data.get(key) == wanted.get(key) for key in patched.values)


def _paused(spike: Spike, state: Namespace) -> bool:
    governing = state.policies.get(spike.policy)
    return governing is not None and governing.pauses.scale_in and governing.pauses.scale_out
