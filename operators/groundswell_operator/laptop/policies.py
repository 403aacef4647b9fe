"""Policies of files, for a place without an API server: it fills in what is left out, and refuses what could not be followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from groundswell_operator.policies import Object
from groundswell_operator.rehearsing import files

DURATION = "[1-9][0-9]{0,6}[smh]"
DURATIONS = ("quietPeriod", "stepInterval", "minHold")


def read(file: Path) -> Object:
    """The policy in a file; raises `files.Unreadable`, which says what is wrong and where."""
    found = files.policy(file)
    if wrong := list(_wrong(found["spec"])):
        raise files.Unreadable(f"{file}: {'; '.join(wrong)}")
    return found


def bounded(value: Object, most: Mapping[str, int]) -> Object:
    """The policy, whose maxima are no more than what the targets of these names may have."""
    actions = [_bounded(each, most) if "scale" in each else each for each in value["spec"]["actions"]]
    return {**value, "spec": {**value["spec"], "actions": actions}}


def _bounded(action: Object, most: Mapping[str, int]) -> Object:
    scale = action["scale"]
    bound = most.get(scale["targetRef"]["name"], scale["max"])
    return {**action, "scale": {**scale, "max": min(scale["max"], bound)}}


def _wrong(spec: Object) -> Iterator[str]:
    """What an API server would refuse by the kind's own rules, as far as a plan would go astray by it."""
    cooldown, budget, names = spec["cooldown"], spec["budget"], [each["name"] for each in spec["actions"]]
    durations = {name: cooldown[name] for name in DURATIONS} | {
        "maxRecordAge": spec["maxRecordAge"],
        "maxSpikeDuration": budget["maxSpikeDuration"],
    }
    for name, value in durations.items():
        if not re.fullmatch(DURATION, value):
            yield f"{name} must be a whole number of s, m or h, such as 90s; it is {value!r}"
    if not 0 < cooldown["stepFactor"] <= 0.5:
        yield "stepFactor must be above 0 and at most 0.5"
    if len(names) != len(set(names)):
        yield "each action must have a name of its own"
    for action in spec["actions"]:
        if len(action.keys() & {"scale", "configMapPatch", "notify"}) != 1:
            yield f"{action['name']} must have exactly one of scale, configMapPatch and notify"
        scale = action.get("scale")
        if scale and not 1 <= scale["multiplier"] <= 20:
            yield f"{action['name']}: multiplier must be between 1 and 20"
        if scale and scale["max"] < 1:
            yield f"{action['name']}: max must be 1 or more"
    for name, least in (("maxConcurrentSpikes", 1), ("maxExtraReplicas", 1), ("maxReplicaMinutesPerDay", 1)):
        if budget[name] < least:
            yield f"{name} must be {least} or more"
