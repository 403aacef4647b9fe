"""What stands for KEDA beside the tests' control plane: the kind ScaledObject, and a controller that keeps one autoscaler for each.

The schema is our own and says only what the tests and the operator use, with KEDA's rule that the floor is not above the ceiling. The
controller does one thing that KEDA documents: the autoscaler `keda-hpa-<name>`, which belongs to its ScaledObject, has its bounds (1 and
100 where it says none; an autoscaler has no floor of 0), and there is none while it is paused. It has no triggers: its autoscalers go by
the metric of `load`. So it proves what the operator writes and what an autoscaler then does, and nothing that KEDA does besides.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from tests.cluster import load
from tests.cluster.control_plane.api import Api, Object, Refused
from tests.cluster.control_plane.handle import ControlPlane

GROUP = "keda.sh/v1alpha1"
PAUSED = "autoscaling.keda.sh/paused"
POLL_S = 0.05
_COUNT = {"type": "integer", "format": "int32", "minimum": 0}
_SPEC = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "properties": {name: {"type": "string"} for name in ("apiVersion", "kind", "name")},
        },
        "idleReplicaCount": _COUNT,
        "minReplicaCount": _COUNT,
        "maxReplicaCount": {**_COUNT, "minimum": 1},
        "triggers": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {}}},
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.minReplicaCount) || self.minReplicaCount <= "
            "(has(self.maxReplicaCount) ? self.maxReplicaCount : 100)",
            "message": "minReplicaCount is above maxReplicaCount",
        }
    ],
}
KIND: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "names": {"kind": "ScaledObject", "listKind": "ScaledObjectList", "plural": "scaledobjects"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _SPEC}}},
            }
        ],
    },
}


@contextmanager
def served(plane: ControlPlane) -> Iterator[None]:
    """The kind, until the context ends."""
    plane.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(KIND))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/scaledobjects.keda.sh")
    plane.kubectl("get", "scaledobjects", "--all-namespaces")  # which it tries until their storage is there
    try:
        yield
    finally:
        plane.kubectl("delete", "--timeout=60s", "crd", "scaledobjects.keda.sh")


@asynccontextmanager
async def following(admin: Api, namespace: str) -> AsyncIterator[None]:
    """Autoscalers of a namespace follow its ScaledObjects until the context ends, which raises what kept them from it."""
    follower = asyncio.create_task(_follow(admin, namespace))
    try:
        yield
    finally:
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower


async def _follow(admin: Api, namespace: str) -> None:
    objects = f"/apis/{GROUP}/namespaces/{namespace}/scaledobjects"
    autoscalers = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    while True:
        found = {each["metadata"]["name"]: each for each in await admin.items(autoscalers)}
        for each in await admin.items(objects):
            name = f"keda-hpa-{each['metadata']['name']}"
            await _kept(admin, autoscalers, name, each, found.get(name))
        await asyncio.sleep(POLL_S)


async def _kept(admin: Api, autoscalers: str, name: str, value: Object, found: Object | None) -> None:
    """The autoscaler of one, made, changed or taken away where it is not what it has to be."""
    path = f"{autoscalers}/{name}"
    if PAUSED in value["metadata"].get("annotations", {}):
        if found is not None:
            await admin.delete(path)
        return
    wanted = _autoscaler(name, value)
    if found is None:
        await admin.create(autoscalers, wanted)
    elif any(found["spec"][bound] != wanted["spec"][bound] for bound in ("minReplicas", "maxReplicas")):
        with suppress(Refused):  # the autoscaler controller was quicker with a status: the next look does it
            await admin.replace(path, {**found, "spec": {**found["spec"], **wanted["spec"]}})


def _autoscaler(name: str, value: Object) -> Object:
    spec, metadata = value["spec"], value["metadata"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]}
    average = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    owner = {"apiVersion": GROUP, "kind": "ScaledObject", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}]},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": max(1, spec.get("minReplicaCount", 0)),
            "maxReplicas": spec.get("maxReplicaCount", 100),
            "metrics": [{"type": "External", "external": average}],
        },
    }
