"""Objects of the API server in the words of the saga."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from groundswell_operator.applying import scalers, shortfalls, statuses
from groundswell_operator.applying.errors import ODD, Refused
from groundswell_operator.applying.ownership import MANAGER, owners
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.scaled_objects import ScaledObjects
from groundswell_operator.applying.scalers import HORIZONTAL, SCALED_OBJECT
from groundswell_operator.planning.admission import Spike as Evidence
from groundswell_operator.policies import APPS, DEPLOYMENT, STATEFUL_SET, Level, Object, Policy, Target, is_name
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Autoscaler, ConfigMap, Governing, Pauses, Scaled, Spike, Unread

log = logging.getLogger(__name__)

PREFIX = "groundswell.dev"
PARTITIONS = f"{PREFIX}/partitions"
"""Annotation of a target: how many partitions its pods read together; more pods than that would have nothing to read."""
GROUP = f"{PREFIX}/v1alpha1"
FINALIZER = f"{PREFIX}/restore"
AUTOSCALERS = {"kube-controller-manager", "keda"}
"""Field managers of the replicas that an autoscaler, or KEDA by itself, has written."""
HEARTBEAT = "groundswell-bridge"
"""The Lease in which the bridge says that it looks for spikes."""
Owners = Mapping[str, tuple[str, str]]
"""The policies of spikes, by name and uid."""


class Spikes(Protocol):
    """What is listed of them."""

    @property
    def spikes(self) -> Mapping[str, Spike]: ...

    @property
    def owners(self) -> Owners: ...


class Paths:
    """Where a namespace's objects are."""

    def __init__(self, namespace: str) -> None:
        self.policies = f"/apis/{GROUP}/namespaces/{namespace}/viralspikepolicies"
        self.spikes = f"/apis/{GROUP}/namespaces/{namespace}/viralspikes"
        self.deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self.stateful_sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
        self.autoscalers = f"/apis/{HORIZONTAL.api_version}/namespaces/{namespace}/horizontalpodautoscalers"
        self.scaled_objects = f"/apis/{SCALED_OBJECT.api_version}/namespaces/{namespace}/scaledobjects"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.config_maps = f"/api/v1/namespaces/{namespace}/configmaps"
        self.secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self.heartbeat = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{HEARTBEAT}"
        self.events = f"/api/v1/namespaces/{namespace}/events"

    def scaled(self, target: Target) -> str:
        """What an action scales."""
        plural = self.stateful_sets if target.kind == STATEFUL_SET else self.deployments
        return f"{plural}/{target.name}"

    def scaler(self, scaler: Autoscaler) -> str:
        """What governs a target."""
        return f"{self.scaled_objects if scaler.kind == SCALED_OBJECT.name else self.autoscalers}/{scaler.name}"


async def read(
    requests: Asking, paths: Paths, scaled_objects: ScaledObjects, listed: Callable[[], Awaitable[Spikes]]
) -> Namespace:
    """Everything that decides, as it is now; the spikes are those that are `listed`."""
    found, heard_s, policies, deployments, stateful_sets, scalers_of = await asyncio.gather(
        listed(),
        _heard_s(requests, paths),
        _items(requests, paths.policies),
        _items(requests, paths.deployments),
        _items(requests, paths.stateful_sets),
        _scalers(requests, paths, scaled_objects),
    )
    # The lists are not of one moment: of a policy that was replaced this one may be the old one.
    if _disowned(found.owners, policies):
        policies = await _items(requests, paths.policies)
    spikes = dict(found.spikes)
    for name in _disowned(found.owners, policies):
        spikes[name] = dataclasses.replace(spikes[name], policy="")
    governed = {each["metadata"]["name"]: _governing(each) for each in policies if not _deleted(each)}
    state = Namespace(
        policies={name: each for name, each in governed.items() if each is not None},
        spikes=spikes,
        heard_s=heard_s,
        unread_policies=frozenset(name for name, each in governed.items() if each is None),
        targets=_targets(deployments, DEPLOYMENT, scalers_of) | _targets(stateful_sets, STATEFUL_SET, scalers_of),
    )
    if names := _named(state):
        state = dataclasses.replace(state, config_maps=await _config_maps(requests, paths, names))
    live = [each.progress for each in state.spikes.values() if each.acts and each.lives]
    if not live:
        return state
    since_s = min(each.decided_s or 0.0 for each in live)
    return await _with_shortfalls(requests, paths, state, stateful_sets, since_s)


async def _items(requests: Asking, path: str) -> Sequence[Object]:
    found: Sequence[Object] = (await requests.get(path))["items"]
    return found


async def _scalers(requests: Asking, paths: Paths, scaled_objects: ScaledObjects) -> Mapping[Target, Autoscaler]:
    """What governs each target that something governs."""
    autoscalers, kedas = await asyncio.gather(_items(requests, paths.autoscalers), scaled_objects.listed())
    if kedas is None and any(scalers.owner(each) for each in autoscalers):
        kedas = await scaled_objects.told_of()
    return scalers.by_target(autoscalers, kedas)


def _targets(values: Sequence[Object], kind: str, governing: Mapping[Target, Autoscaler]) -> dict[Target, Scaled]:
    targets = {Target(APPS, kind, each["metadata"]["name"]): each for each in values}
    return {target: scaled(each, kind, governing.get(target)) for target, each in targets.items()}


async def _heard_s(requests: Asking, paths: Paths) -> float | None:
    """When the bridge last said that it looks; None where there is none."""
    said = ((await _if_open(requests, paths.heartbeat)) or {}).get("spec", {}).get("renewTime")
    try:
        return statuses.seconds_of(said) if said else None
    except ODD as error:
        log.warning("the Lease of the bridge cannot be read: %r", error)
        return None


def _named(state: Namespace) -> set[str]:
    """The ConfigMaps that a policy or a live spike names, as far as there can be any of that name."""
    named = {each.config_map for governing in state.policies.values() for each in governing.policy.patches}
    live = (each.progress for each in state.spikes.values() if each.lives)
    named |= {each.config_map for progress in live for each in progress.patches}
    return {each for each in named if is_name(each)}


async def _config_maps(requests: Asking, paths: Paths, names: set[str]) -> dict[str, ConfigMap]:
    found = await asyncio.gather(*(_if_open(requests, f"{paths.config_maps}/{name}") for name in sorted(names)))
    return {each["metadata"]["name"]: config_map(each) for each in found if each is not None}


async def _if_open(requests: Asking, path: str) -> Object | None:
    """An object, if it is there and the operator's rights name it."""
    try:
        return await requests.get(path)
    except Refused as refused:
        if refused.status not in (403, 404):
            raise
        return None


def config_map(value: Object) -> ConfigMap:
    """A ConfigMap, as far as its text goes."""
    metadata, writers = value["metadata"], Counter[str]()
    ours: set[str] = set()
    for each in metadata.get("managedFields", ()):
        keys = {name.removeprefix("f:") for name in each.get("fieldsV1", {}).get("f:data", {}) if name != "."}
        writers.update(keys)
        ours |= keys if each.get("manager") == MANAGER else set()
    data = value.get("data") or {}
    return ConfigMap(
        name=metadata["name"],
        version=metadata["resourceVersion"],
        data=data,
        ours=frozenset(ours & data.keys()),
        shared=frozenset(key for key in ours if writers[key] > 1),
        is_immutable=value.get("immutable", False),
    )


async def _with_shortfalls(
    requests: Asking, paths: Paths, state: Namespace, stateful_sets: Sequence[Object], since_s: float
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


def owner(metadata: Object) -> Object | None:
    """The policy that a spike is of."""
    owners = (each for each in metadata.get("ownerReferences", ()) if each["kind"] == "ViralSpikePolicy")
    return next(owners, None)


def _disowned(owners: Owners, policies: Sequence[Object]) -> list[str]:
    """Spikes whose policy is gone, though there is one of its name: what happens to them is no matter of that one's."""
    uids = {each["metadata"]["name"]: each["metadata"]["uid"] for each in policies}
    return [name for name, (policy, uid) in owners.items() if uids.get(policy, uid) != uid]


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
    owned_by, evidence = owner(metadata), spec["evidence"]
    deleted = metadata.get("deletionTimestamp")
    return Spike(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        policy=owned_by["name"] if owned_by else "",
        evidence=Evidence(
            id=metadata["name"],
            tenant=spec["tenant"],
            kind=spec["kind"],
            level=level_of(value),
            projected_views_hour=evidence["projectedViewsHour"],
            confidence=float(evidence.get("confidence", 1)),
            distinct_users=evidence.get("distinctUsers", 0),
            detected_s=statuses.seconds_of(spec["detectedAt"]),
        ),
        created_s=statuses.seconds_of(metadata["creationTimestamp"]),
        over_s=statuses.seconds_of(over) if (over := over_of(value)) else None,
        deleted_s=statuses.seconds_of(deleted) if deleted else None,
        held=FINALIZER in metadata.get("finalizers", ()),
        other_finalizers=[each for each in metadata.get("finalizers", ()) if each != FINALIZER],
        progress=statuses.progress(status),
        item=spec["item"],
        notices=statuses.deliveries(status),
    )


def level_of(value: Object) -> Level:
    """How far a spike has come: since it was made, if that was said to be farther."""
    return max(Level[each.get("level", Level.RISING.name)] for each in (value.get("spec", {}), value.get("status", {})))


def over_of(value: Object) -> str | None:
    """When a spike was said to be over; the end may have been heard of before its start."""
    said: str | None = value.get("status", {}).get("over") or value.get("spec", {}).get("over")
    return said


def scaled(value: Object, kind: str, scaler: Autoscaler | None) -> Scaled:
    """A Deployment or StatefulSet, with what governs it, whose pauses are its own."""
    metadata, status = value["metadata"], value.get("status", {})
    writers, pauses = owners(metadata, "f:replicas"), _pauses(metadata)
    partitions = (metadata.get("annotations") or {}).get(PARTITIONS)
    if scaler is not None:
        theirs = scaler.pauses
        pauses = Pauses(pauses.scale_in or theirs.scale_in, pauses.scale_out or theirs.scale_out)
    found = Scaled(
        target=Target(APPS, kind, metadata["name"]),
        version=metadata["resourceVersion"],
        replicas=value["spec"].get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        replicas_ours=MANAGER in writers,
        replicas_by_autoscaler=not AUTOSCALERS.isdisjoint(writers),
        partitions=_count(partitions) if partitions is not None else None,
        pauses=pauses,
        autoscaler=scaler,
    )
    return shortfalls.with_shortfalls(found, shortfalls.denied(value))


def _count(annotation: str) -> int:
    """The number in an annotation; 0, which lets nothing be raised, where it is none."""
    return int(annotation) if re.fullmatch("[0-9]{1,6}", annotation) else 0
