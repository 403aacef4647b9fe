"""The Node objects of an agent, and the leases by which the controller manager knows that they live."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import httpx

from tests.cluster.control_plane.api import Api, Object, Refused
from tests.cluster.control_plane.components import PROCESS_NODE
from tests.cluster.process_nodes.states import now

log = logging.getLogger(__name__)

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_S, RENEW_S = 40, 10.0
ZONES = 3
CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
"""Made up: what pods use is not measured."""
CONDITIONS = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}


async def register(api: Api, name: str, number: int) -> None:
    """A node that is ready from the start, and its lease."""
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number % ZONES}",
        PROCESS_NODE: "",
    }
    node = {"metadata": {"name": name, "labels": labels}, "status": _status(name)}
    made = await api.create("/api/v1/nodes", node)
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": made["metadata"]["uid"]}
    await api.create(LEASES, {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": _lease(name)})


async def keep(api: Api, name: str) -> None:
    """Renews the lease until it is cancelled."""
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            await api.patch(f"{LEASES}/{name}", {"spec": _lease(name)})
        except (Refused, httpx.HTTPError) as error:
            log.warning("the lease of %s is not renewed: %r", name, error)


def _status(name: str) -> Object:
    stamp = now()
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": "ProcessNode",
                "message": "",
                "lastHeartbeatTime": stamp,
                "lastTransitionTime": stamp,
            }
            for kind, status in CONDITIONS.items()
        ],
    }


def _lease(name: str) -> Object:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": name, "leaseDurationSeconds": LEASE_S, "renewTime": moment}
