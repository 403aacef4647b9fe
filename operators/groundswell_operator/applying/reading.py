"""Objects of the API server in the words of the saga."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence

from groundswell_operator.applying import shortfalls, statuses
from groundswell_operator.applying.requests import Requests
from groundswell_operator.planning.admission import Spike as Evidence
from groundswell_operator.policies import Level, Object, Policy, Target
from groundswell_operator.saga.state import LIVE, Autoscaler, Governing, Namespace, Pauses, Scaled, Spike

PREFIX = "groundswell.dev"
GROUP = f"{PREFIX}/v1alpha1"
FINALIZER = f"{PREFIX}/restore"
MANAGER = "groundswell-spike"
"""Field manager of everything that the operator writes."""
AUTOSCALER = "kube-controller-manager"
"""Field manager of the replicas that an autoscaler has written."""
TOLERANCE = 0.1
"""An autoscaler leaves replicas as they are while a metric is so near to its target."""


class Paths:
    """Where a namespace's objects are."""

    def __init__(self, namespace: str) -> None:
        self.policies = f"/apis/{GROUP}/namespaces/{namespace}/viralspikepolicies"
        self.spikes = f"/apis/{GROUP}/namespaces/{namespace}/viralspikes"
        self.deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self.autoscalers = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.events = f"/api/v1/namespaces/{namespace}/events"


async def read(requests: Requests, paths: Paths) -> Namespace:
    """Everything that decides, as it is now."""
    lists = await asyncio.gather(
        *(requests.get(path) for path in (paths.policies, paths.spikes, paths.deployments, paths.autoscalers))
    )
    policies, spikes, deployments, autoscalers = (each["items"] for each in lists)
    found = [scaled(each, autoscalers) for each in deployments]
    state = Namespace(
        policies={each["metadata"]["name"]: governing(each) for each in policies if not _deleted(each)},
        spikes={each["metadata"]["name"]: spike(each) for each in spikes},
        targets={each.target: each for each in found},
    )
    if any(each.acts and each.progress.phase in LIVE for each in state.spikes.values()):
        return await _with_unschedulable(requests, paths, state)
    return state


async def _with_unschedulable(requests: Requests, paths: Paths, state: Namespace) -> Namespace:
    pods = (await requests.get(paths.pods, fieldSelector=shortfalls.UNPLACED))["items"]
    short = shortfalls.unschedulable(pods)
    found = {target: shortfalls.with_shortfall(each, short.get(target)) for target, each in state.targets.items()}
    return dataclasses.replace(state, targets=found)


def _deleted(value: Object) -> bool:
    return "deletionTimestamp" in value["metadata"]


def governing(value: Object) -> Governing:
    """A ViralSpikePolicy."""
    metadata = value["metadata"]
    approved = metadata.get("annotations", {}).get(f"{PREFIX}/approve", "")
    return Governing(
        policy=Policy.of(value),
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        generation=metadata["generation"],
        approved=frozenset(approved.replace(",", " ").split()),
        pauses=_pauses(metadata),
        unsupported=[each["name"] for each in value["spec"]["actions"] if "scale" not in each],
        notes=statuses.notes(value.get("status", {})),
    )


def _pauses(metadata: Object) -> Pauses:
    annotations = metadata.get("annotations") or {}

    def says(name: str) -> bool:
        return bool(annotations.get(f"{PREFIX}/{name}", "false") != "false")

    return Pauses(says("paused") or says("paused-scale-in"), says("paused") or says("paused-scale-out"))


def spike(value: Object) -> Spike:
    """A ViralSpike."""
    metadata, spec, status = value["metadata"], value["spec"], value.get("status", {})
    owners = [each["name"] for each in metadata.get("ownerReferences", ()) if each["kind"] == "ViralSpikePolicy"]
    evidence = spec["evidence"]
    deleted = metadata.get("deletionTimestamp")
    return Spike(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        policy=owners[0] if owners else "",
        evidence=Evidence(
            id=metadata["name"],
            tenant=spec["tenant"],
            kind=spec["kind"],
            level=Level[status.get("level", "RISING")],
            projected_views_hour=evidence["projectedViewsHour"],
            confidence=float(evidence.get("confidence", 1)),
            distinct_users=evidence.get("distinctUsers", 0),
            detected_s=statuses.seconds_of(spec["detectedAt"]),
        ),
        created_s=statuses.seconds_of(metadata["creationTimestamp"]),
        over_s=statuses.seconds_of(status["over"]) if "over" in status else None,
        deleted_s=statuses.seconds_of(deleted) if deleted else None,
        held=FINALIZER in metadata.get("finalizers", ()),
        other_finalizers=[each for each in metadata.get("finalizers", ()) if each != FINALIZER],
        leveled="level" in status,
        progress=statuses.progress(status),
    )


def scaled(value: Object, autoscalers: Sequence[Object]) -> Scaled:
    """A Deployment, with the autoscaler that governs it."""
    metadata, status = value["metadata"], value.get("status", {})
    name, owners = metadata["name"], _owners(metadata, "f:replicas")
    partitions = (metadata.get("annotations") or {}).get(f"{PREFIX}/partitions", "")
    governing_it = [each for each in autoscalers if _governs(each, name)]
    found = Scaled(
        target=Target("apps/v1", "Deployment", name),
        version=metadata["resourceVersion"],
        replicas=value["spec"].get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        replicas_ours=MANAGER in owners,
        replicas_by_autoscaler=AUTOSCALER in owners,
        partitions=int(partitions) if partitions.isdigit() else None,
        pauses=_pauses(metadata),
        autoscaler=autoscaler(governing_it[0]) if governing_it else None,
    )
    return shortfalls.with_shortfall(found, shortfalls.denied(value))


def _governs(value: Object, deployment: str) -> bool:
    target = value["spec"]["scaleTargetRef"]
    return bool(target["kind"] == "Deployment" and target["name"] == deployment)


def _owners(metadata: Object, name: str) -> set[str]:
    """The managers of a field of the spec."""
    return {
        each["manager"]
        for each in metadata.get("managedFields", ())
        if name in each.get("fieldsV1", {}).get("f:spec", {}) and each.get("manager")
    }


def autoscaler(value: Object) -> Autoscaler:
    """A HorizontalPodAutoscaler."""
    metadata, spec = value["metadata"], value["spec"]
    floors, ceilings = _owners(metadata, "f:minReplicas"), _owners(metadata, "f:maxReplicas")
    foreign = [each["name"] for each in metadata.get("ownerReferences", ()) if each["kind"] == "ScaledObject"]
    return Autoscaler(
        name=metadata["name"],
        version=metadata["resourceVersion"],
        floor=spec.get("minReplicas", 1),
        ceiling=spec["maxReplicas"],
        floor_ours=MANAGER in floors,
        ceiling_ours=MANAGER in ceilings,
        ceiling_shared=len(ceilings) > 1,
        floor_shared=len(floors) > 1,
        wants=wants(value),
        foreign=f"the ScaledObject {foreign[0]}" if foreign else "",
    )


def wants(value: Object) -> int | None:
    """The replicas that the metrics call for, whatever the floor; None when one of them is not known.

    Its status says what it wants only within its bounds, so this is its own arithmetic over the metrics that it saw.
    """
    status, metrics = value.get("status", {}), value["spec"].get("metrics") or []
    active = [each["status"] for each in status.get("conditions") or () if each["type"] == "ScalingActive"]
    seen = {_key(each): each for each in status.get("currentMetrics") or () if each.get("type")}
    if active != ["True"] or not metrics or any(_key(each) not in seen for each in metrics):
        return None
    replicas = status.get("currentReplicas", 0)
    return max(_called_for(_part(each)["target"], _part(seen[_key(each)])["current"], replicas) for each in metrics)


def _part(metric: Object) -> Object:
    part: Object = metric[metric["type"][0].lower() + metric["type"][1:]]
    return part


def _key(metric: Object) -> tuple[str, str]:
    part = _part(metric)
    return metric["type"], str(part.get("name") or part["metric"]["name"])


def _called_for(target: Object, current: Object, replicas: int) -> int:
    name = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}[target["type"]]
    ratio = _number(current.get(name, 0)) / _number(target[name])
    return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(round(ratio * replicas, 6))


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def _number(quantity: str | int) -> float:
    """1.5 of 1500m."""
    text = str(quantity)
    unit = next((each for each in sorted(_UNITS, key=len, reverse=True) if text.endswith(each)), "")
    return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
