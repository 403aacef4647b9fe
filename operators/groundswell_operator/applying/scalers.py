"""What governs the replicas of a target: a HorizontalPodAutoscaler, or a ScaledObject of KEDA with the autoscaler that KEDA keeps for it.

Only reading and writing know the two kinds; to the saga each is an `Autoscaler` with a floor and a ceiling. The autoscaler of a
ScaledObject says what its metrics call for and is never written: KEDA would take that back at its next look.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from groundswell_operator.applying.errors import ODD
from groundswell_operator.applying.ownership import MANAGER, owners
from groundswell_operator.policies import APPS, DEPLOYMENT, Object, Target
from groundswell_operator.saga.state import Autoscaler, Pauses

log = logging.getLogger(__name__)

TOLERANCE = 0.1
"""An autoscaler leaves replicas as they are while a metric is so near to its target."""
KEDA = "autoscaling.keda.sh"


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind has its bounds."""

    api_version: str
    name: str
    floor: str
    ceiling: str


HORIZONTAL = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "minReplicas", "maxReplicas")
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "minReplicaCount", "maxReplicaCount")
KINDS = {each.name: each for each in (HORIZONTAL, SCALED_OBJECT)}
FLOOR_UNSET, CEILING_UNSET = 0, 100
"""What KEDA takes where a ScaledObject does not say."""


def by_target(autoscalers: Sequence[Object], scaled_objects: Sequence[Object] | None) -> dict[Target, Autoscaler]:
    """What governs each target; without `scaled_objects` (they cannot be read) what belongs to one of them is hidden."""
    kept = {owner(each): each for each in autoscalers if owner(each)}
    found: dict[Target, Autoscaler] = {}
    for each in scaled_objects or ():
        found.setdefault(_target(each), scaled_object(each, kept.get(each["metadata"]["name"])))
    for each in autoscalers:
        found.setdefault(_target(each), hidden(each) if owner(each) else autoscaler(each))
    return found


def owner(value: Object) -> str:
    """The ScaledObject that an autoscaler belongs to; empty without one."""
    found = (each for each in value["metadata"].get("ownerReferences", ()) if each["kind"] == SCALED_OBJECT.name)
    return next((str(each["name"]) for each in found), "")


def _target(value: Object) -> Target:
    """A ScaledObject that names no kind means a Deployment."""
    found = value["spec"]["scaleTargetRef"]
    return Target(APPS, found.get("kind") or DEPLOYMENT, found["name"])


def autoscaler(value: Object) -> Autoscaler:
    """A HorizontalPodAutoscaler of its own."""
    return dataclasses.replace(_bounded(value, HORIZONTAL, 1, value["spec"]["maxReplicas"]), wants=wants(value))


def hidden(value: Object) -> Autoscaler:
    """One that belongs to a ScaledObject which cannot be read; nothing of it is ours to write."""
    why = f"{value['metadata']['name']} follows the ScaledObject {owner(value)}, which cannot be read"
    return dataclasses.replace(autoscaler(value), hidden=True, unusable=why, floor_ours=False, ceiling_ours=False)


def scaled_object(value: Object, kept: Object | None) -> Autoscaler:
    """A ScaledObject; `kept` is the autoscaler that KEDA keeps for it, which it does not while it is paused."""
    return dataclasses.replace(
        _bounded(value, SCALED_OBJECT, FLOOR_UNSET, CEILING_UNSET),
        wants=wants(kept) if kept is not None else None,
        unusable=_unusable(value),
        pauses=Pauses(_says(value, "paused-scale-in"), _says(value, "paused-scale-out")),
    )


def following(before: Autoscaler, answer: Object) -> Autoscaler:
    """What the API server answered to a write of the bounds; what the metrics call for is as it was."""
    if before.kind == SCALED_OBJECT.name:
        return dataclasses.replace(scaled_object(answer, None), wants=before.wants)
    return autoscaler(answer)


def _bounded(value: Object, kind: Kind, floor_unset: int, ceiling_unset: int) -> Autoscaler:
    metadata, spec = value["metadata"], value["spec"]
    floors, ceilings = owners(metadata, f"f:{kind.floor}"), owners(metadata, f"f:{kind.ceiling}")
    floor, ceiling = spec.get(kind.floor), spec.get(kind.ceiling)
    return Autoscaler(
        name=metadata["name"],
        version=metadata["resourceVersion"],
        kind=kind.name,
        floor=floor_unset if floor is None else floor,
        ceiling=ceiling_unset if ceiling is None else ceiling,
        floor_set=floor is not None or kind is HORIZONTAL,
        ceiling_set=ceiling is not None,
        floor_ours=MANAGER in floors,
        ceiling_ours=MANAGER in ceilings,
        ceiling_shared=len(ceilings) > 1,
        floor_shared=len(floors) > 1,
    )


def _unusable(value: Object) -> str:
    """Why KEDA would not follow a floor."""
    name = f"the ScaledObject {value['metadata']['name']}"
    if _says(value, "paused") or _annotation(value, "paused-replicas") is not None:
        return f"{name} is paused, so KEDA follows no floor of it"
    idle = value["spec"].get("idleReplicaCount")
    if idle is not None:
        return f"{name} idles at {idle} while its triggers are silent, whatever its floor"
    return ""


def _says(value: Object, name: str) -> bool:
    """Whether an annotation is true as KEDA reads it: whatever is not false is."""
    found = _annotation(value, name)
    return found is not None and found not in ("0", "f", "F", "false", "FALSE", "False")


def _annotation(value: Object, name: str) -> str | None:
    found: str | None = (value["metadata"].get("annotations") or {}).get(f"{KEDA}/{name}")
    return found


def wants(value: Object) -> int | None:
    """The replicas that the metrics call for, whatever the floor; None when one of them is not known, or cannot be read.

    Its status says what it wants only within its bounds, so this is its own arithmetic over the metrics that it saw.
    """
    try:
        return _wants(value)
    except ODD as error:
        log.warning("the metrics of the autoscaler %s cannot be read: %r", value["metadata"]["name"], error)
        return None


def _wants(value: Object) -> int | None:
    status, metrics = value.get("status", {}), value["spec"].get("metrics") or []
    active = [each["status"] for each in status.get("conditions") or () if each["type"] == "ScalingActive"]
    seen = status.get("currentMetrics") or []
    if active != ["True"] or not metrics or [*map(_key, metrics)] != [*map(_key, seen)]:
        return None
    replicas = status.get("currentReplicas", 0)
    # In the order of the spec: two may have the same name and differ in their selector.
    pairs = zip(metrics, seen, strict=True)
    return max(_called_for(_part(each)["target"], _part(found)["current"], replicas) for each, found in pairs)


def _part(metric: Object) -> Object:
    part: Object = metric[metric["type"][0].lower() + metric["type"][1:]]
    return part


def _key(metric: Object) -> tuple[str, str, str]:
    """Type, name and container; of one that could not be read nothing."""
    if not metric.get("type"):
        return "", "", ""
    part = _part(metric)
    return metric["type"], str(part.get("name") or part["metric"]["name"]), str(part.get("container", ""))


def _called_for(target: Object, current: Object, replicas: int) -> int:
    name = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}[target["type"]]
    ratio = _number(current.get(name, 0)) / _number(target[name])
    return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(round(ratio * replicas, 6))


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def _number(quantity: str | int) -> float:
    """1.5 of 1500m."""
    text = str(quantity)
    unit = next((each for each in sorted(_UNITS, key=len, reverse=True) if text.endswith(each)), "")
    return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
