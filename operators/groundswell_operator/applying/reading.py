"""Objects of the API server in the words of the saga."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence

from groundswell_operator.applying import shortfalls, statuses
from groundswell_operator.applying.errors import ODD, Refused
from groundswell_operator.applying.requests import Requests
from groundswell_operator.planning.admission import Spike as Evidence
from groundswell_operator.policies import APPS, DEPLOYMENT, STATEFUL_SET, Level, Object, Policy, Target
from groundswell_operator.saga.state import (
    LIVE,
    Autoscaler,
    ConfigMap,
    Governing,
    Namespace,
    Pauses,
    Scaled,
    Spike,
    Unread,
)

log = logging.getLogger(__name__)

PREFIX = "groundswell.dev"
PARTITIONS = f"{PREFIX}/partitions"
"""Annotation of a target: how many partitions its pods read together; more pods than that would have nothing to read."""
GROUP = f"{PREFIX}/v1alpha1"
FINALIZER = f"{PREFIX}/restore"
MANAGER = "groundswell-spike"
"""Field manager of everything that the operator writes."""
AUTOSCALER = "kube-controller-manager"
"""Field manager of the replicas that an autoscaler has written."""
HEARTBEAT = "groundswell-bridge"
"""The Lease in which the bridge says that it looks for spikes."""
PAGE = 250
"""Spikes in one answer."""
TOLERANCE = 0.1
"""An autoscaler leaves replicas as they are while a metric is so near to its target."""


class Paths:
    """Where a namespace's objects are."""

    def __init__(self, namespace: str) -> None:
        self.policies = f"/apis/{GROUP}/namespaces/{namespace}/viralspikepolicies"
        self.spikes = f"/apis/{GROUP}/namespaces/{namespace}/viralspikes"
        self.deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self.stateful_sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
        self.autoscalers = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.config_maps = f"/api/v1/namespaces/{namespace}/configmaps"
        self.secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self.heartbeat = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{HEARTBEAT}"
        self.events = f"/api/v1/namespaces/{namespace}/events"

    def scaled(self, target: Target) -> str:
        """What an action scales."""
        plural = self.stateful_sets if target.kind == STATEFUL_SET else self.deployments
        return f"{plural}/{target.name}"


async def read(requests: Requests, paths: Paths) -> Namespace:
    """Everything that decides, as it is now."""
    spikes, heard_s, lists = await asyncio.gather(
        _spikes(requests, paths.spikes),
        _heard_s(requests, paths),
        asyncio.gather(
            *(
                requests.get(path)
                for path in (paths.policies, paths.deployments, paths.stateful_sets, paths.autoscalers)
            )
        ),
    )
    policies, deployments, stateful_sets, autoscalers = (each["items"] for each in lists)
    found = [scaled(each, DEPLOYMENT, autoscalers) for each in deployments]
    found += [scaled(each, STATEFUL_SET, autoscalers) for each in stateful_sets]
    governed = {each["metadata"]["name"]: _governing(each) for each in policies if not _deleted(each)}
    state = Namespace(
        policies={name: each for name, each in governed.items() if each is not None},
        spikes=spikes,
        heard_s=heard_s,
        unread_policies=frozenset(name for name, each in governed.items() if each is None),
        targets={each.target: each for each in found},
    )
    if names := _named(state):
        state = dataclasses.replace(state, config_maps=await _config_maps(requests, paths, names))
    live = [each.progress for each in state.spikes.values() if each.acts and each.progress.phase in LIVE]
    if not live:
        return state
    since_s = min(each.decided_s or 0.0 for each in live)
    return await _with_shortfalls(requests, paths, state, stateful_sets, since_s)


async def _heard_s(requests: Requests, paths: Paths) -> float | None:
    """When the bridge last said that it looks; None where there is none."""
    said = ((await _if_open(requests, paths.heartbeat)) or {}).get("spec", {}).get("renewTime")
    try:
        return statuses.seconds_of(said) if said else None
    except ODD as error:
        log.warning("the Lease of the bridge cannot be read: %r", error)
        return None


def _named(state: Namespace) -> set[str]:
    """The ConfigMaps that a policy or a live spike names."""
    named = {each.config_map for governing in state.policies.values() for each in governing.policy.patches}
    live = (each.progress for each in state.spikes.values() if each.progress.phase in LIVE)
    return named | {each.config_map for progress in live for each in progress.patches}


async def _config_maps(requests: Requests, paths: Paths, names: set[str]) -> dict[str, ConfigMap]:
    found = await asyncio.gather(*(_if_open(requests, f"{paths.config_maps}/{name}") for name in sorted(names)))
    return {each["metadata"]["name"]: config_map(each) for each in found if each is not None}


async def _if_open(requests: Requests, path: str) -> Object | None:
    """An object, if it is there and the operator's rights name it."""
    try:
        return await requests.get(path)
    except Refused as refused:
        if refused.status not in (403, 404):
            raise
        return None


def config_map(value: Object) -> ConfigMap:
    """A ConfigMap, as far as its text goes."""
    metadata, owners = value["metadata"], Counter[str]()
    ours: set[str] = set()
    for each in metadata.get("managedFields", ()):
        keys = {name.removeprefix("f:") for name in each.get("fieldsV1", {}).get("f:data", {}) if name != "."}
        owners.update(keys)
        ours |= keys if each.get("manager") == MANAGER else set()
    data = value.get("data") or {}
    return ConfigMap(
        name=metadata["name"],
        version=metadata["resourceVersion"],
        data=data,
        ours=frozenset(ours & data.keys()),
        shared=frozenset(key for key in ours if owners[key] > 1),
        is_immutable=value.get("immutable", False),
    )


async def _with_shortfalls(
    requests: Requests, paths: Paths, state: Namespace, stateful_sets: Sequence[Object], since_s: float
) -> Namespace:
    """The state with what lists of targets do not say. A StatefulSet's pods that are not let in are known from Events only."""
    pods = (await requests.get(paths.pods, fieldSelector=shortfalls.UNPLACED))["items"]
    short, denied = shortfalls.unschedulable(pods), {}
    if lacking := {each["metadata"]["name"]: each for each in stateful_sets if shortfalls.missing(each) > 0}:
        events = (await requests.get(paths.events, fieldSelector=shortfalls.NOT_MADE))["items"]
        denied = shortfalls.told_of(events, lacking, since_s)
    found = {
        target: shortfalls.with_shortfalls(each, denied.get(target), short.get(target))
        for target, each in state.targets.items()
    }
    return dataclasses.replace(state, targets=found)


async def _spikes(requests: Requests, path: str) -> dict[str, Spike]:
    """All spikes by name, of one moment; those that are over are many, and their objects large, so they come in pages."""
    found: dict[str, Spike] = {}
    rest = {"limit": str(PAGE)}
    while True:
        answer = await requests.get(path, **rest)
        found |= {each["metadata"]["name"]: spike(each) for each in answer["items"]}
        more = answer["metadata"].get("continue")
        if not more:
            return found
        rest["continue"] = more


def _deleted(value: Object) -> bool:
    return "deletionTimestamp" in value["metadata"]


def _governing(value: Object) -> Governing | None:
    """A ViralSpikePolicy; None where it cannot be read."""
    try:
        return governing(value)
    except ODD as error:
        log.warning("the policy %s cannot be read: %r", value["metadata"]["name"], error)
        return None


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
        notes=statuses.notes(value.get("status", {})),
    )


def _pauses(metadata: Object) -> Pauses:
    annotations = metadata.get("annotations") or {}

    def says(name: str) -> bool:
        return bool(annotations.get(f"{PREFIX}/{name}", "false") != "false")

    return Pauses(says("paused") or says("paused-scale-in"), says("paused") or says("paused-scale-out"))


def spike(value: Object) -> Spike:
    """A ViralSpike, whatever is in it."""
    try:
        return _spike(value)
    except ODD as error:
        log.warning("the spike %s cannot be read: %r", value["metadata"]["name"], error)
        return _unread(value, repr(error))


def _unread(value: Object, why: str) -> Spike:
    """One that says nothing but what an API server says of every object, and which names occur in its status."""
    metadata, status = value["metadata"], value.get("status", {})
    deleted = metadata.get("deletionTimestamp")
    refs = [each.get("targetRef", {}) for each in status.get("targets", ())]
    return Spike(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        policy="",
        evidence=Evidence(metadata["name"], "", "", Level.RISING, 0, 0, 0, 0),
        created_s=statuses.seconds_of(metadata["creationTimestamp"]),
        deleted_s=statuses.seconds_of(deleted) if deleted else None,
        held=FINALIZER in metadata.get("finalizers", ()),
        other_finalizers=[each for each in metadata.get("finalizers", ()) if each != FINALIZER],
        leveled=False,
        unread=Unread(
            why=why,
            targets=frozenset(
                Target(APPS, each["kind"], each["name"]) for each in refs if {"kind", "name"} <= each.keys()
            ),
            config_maps=frozenset(each["configMap"] for each in status.get("patches", ()) if "configMap" in each),
        ),
    )


def _spike(value: Object) -> Spike:
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
        item=spec["item"],
        notices=statuses.deliveries(status),
    )


def scaled(value: Object, kind: str, autoscalers: Sequence[Object]) -> Scaled:
    """A Deployment or StatefulSet, with the autoscaler that governs it."""
    metadata, status = value["metadata"], value.get("status", {})
    target, owners = Target(APPS, kind, metadata["name"]), _owners(metadata, "f:replicas")
    partitions = (metadata.get("annotations") or {}).get(PARTITIONS)
    governing_it = [each for each in autoscalers if _governs(each, target)]
    found = Scaled(
        target=target,
        version=metadata["resourceVersion"],
        replicas=value["spec"].get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        replicas_ours=MANAGER in owners,
        replicas_by_autoscaler=AUTOSCALER in owners,
        partitions=_count(partitions) if partitions is not None else None,
        pauses=_pauses(metadata),
        autoscaler=autoscaler(governing_it[0]) if governing_it else None,
    )
    return shortfalls.with_shortfalls(found, shortfalls.denied(value))


def _count(annotation: str) -> int:
    """The number in an annotation; 0, which lets nothing be raised, where it is none."""
    return int(annotation) if re.fullmatch("[0-9]{1,6}", annotation) else 0


def _governs(value: Object, target: Target) -> bool:
    found = value["spec"]["scaleTargetRef"]
    return (found["kind"], found["name"]) == (target.kind, target.name)


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


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def _number(quantity: str | int) -> float:
    """1.5 of 1500m."""
    text = str(quantity)
    unit = next((each for each in sorted(_UNITS, key=len, reverse=True) if text.endswith(each)), "")
    return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
