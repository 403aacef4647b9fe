"""What a spike is played on: a real control plane with simulated nodes, a broker, and the operator's two processes under their Roles."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer

from benchmarks.engines import started
from benchmarks.result import Skipped
from groundswell.engines import ports, topics
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka
from tests.cluster import load
from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.control_plane.handle import ROOT, ControlPlane, running
from tests.cluster.operating import BRIDGE, Operated, Process, install_kinds, operated, own_namespace, scales
from tests.cluster.tools.families import shelf

POLICY = "default"
READY_S_MAX, GONE_S_MAX = 60.0, 120.0
READERS, WEB = 4, 3
"""Pods ready before a spike."""
READERS_TIMES, WEB_TIMES = 5, 10
CEILING = 40
"""Of the autoscalers: more than a spike calls for."""


@dataclass
class Stage:
    """A namespace of a control plane, and what the autoscaler of its web believes of the load."""

    plane: ControlPlane
    admin: Api
    place: Operated
    load: load.Load
    audit: Audit


@dataclass
class Audit:
    """The API server's log of requests, read on from where it was read to."""

    file: Path
    _read_to: int = field(default=0, init=False)

    def skip(self) -> None:
        """Passes over what is there."""
        self._read_to = self.file.stat().st_size

    def more(self, wanted: Callable[[Object], bool]) -> list[Object]:
        """The wanted ones among the requests that were answered since."""
        with self.file.open("rb") as log:
            log.seek(self._read_to)
            text = log.read()
        text = text[: text.rfind(b"\n") + 1]
        self._read_to += len(text)
        return [each for line in text.splitlines() if wanted(each := json.loads(line))]


def need_programs() -> None:
    """Raises `Skipped` where the programs of a control plane are not built."""
    if shelf().missing():
        raise Skipped("the cluster's programs are not built: run `make cluster-tools`")


@asynccontextmanager
async def control_plane(controllers: str) -> AsyncIterator[tuple[ControlPlane, Api]]:
    """A control plane that knows the operator's kinds, and its administrator; `controllers` is how quick the controller manager is."""
    with running("--controllers", controllers) as plane:
        install_kinds(plane)
        async with plane.admin() as admin:
            yield plane, admin


@asynccontextmanager
async def set_up(plane: ControlPlane, admin: Api) -> AsyncIterator[Stage]:
    """A namespace with readers and web, all ready, under autoscalers, and a policy for both; the load is little.

    Readers come first: half of web's raise waits for them.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="groundswell-bench-")))
        namespace = await stack.enter_async_context(own_namespace(admin))
        place = await stack.enter_async_context(operated(plane, admin, namespace, folder))
        metric = await stack.enter_async_context(load.served(admin, namespace, folder, ports.draw(1)[0], 1))
        await place.target("readers", READERS, scaler={"minReplicas": READERS, "maxReplicas": CEILING})
        await place.target("web", WEB, scaler=_web_scaler(WEB))
        actions = [scales("readers", READERS_TIMES, order=0), scales("web", WEB_TIMES, order=1)]
        await place.policy(POLICY, actions=actions)
        yield Stage(plane, admin, place, metric, Audit(plane.folder / "audit.log"))


async def set_web(stage: Stage, replicas: int, *, forgets: bool = False) -> None:
    """Gives web another floor, as `helm upgrade` does, and so many pods.

    An autoscaler keeps for five minutes what it called for, and would give that to the next Deployment of the name too; one that
    `forgets` does not.
    """
    await stage.place.helm_sets("web", _web_scaler(replicas, forgets=forgets))
    await make_anew(stage, replicas)


async def make_anew(stage: Stage, web: int) -> None:
    """New Deployments of ready pods in the place of the old ones.

    The controller manager tells of the first 25 pods of each by Events, out of the same requests a second: old ones would be quicker.
    """
    place = stage.place
    for name in ("readers", "web"):
        await stage.admin.delete(place.deployment(name))
    await until(lambda: _podless(stage), GONE_S_MAX)
    await asyncio.gather(
        place.target("readers", READERS, patience_s=GONE_S_MAX), place.target("web", web, patience_s=GONE_S_MAX)
    )


async def _podless(stage: Stage) -> bool:
    return not await stage.admin.items(stage.place.path("v1", "pods"))


def _web_scaler(replicas: int, *, forgets: bool = False) -> Object:
    """The spec of an autoscaler, at its defaults unless it `forgets`, that gives each pod one of the load."""
    behavior = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}} if forgets else {}
    metric = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    return {
        "minReplicas": replicas,
        "maxReplicas": max(CEILING, replicas),
        "metrics": [{"type": "External", "external": metric}],
        **behavior,
    }


@asynccontextmanager
async def broker() -> AsyncIterator[tuple[str, AIOKafkaProducer]]:
    """The address of a broker that has the platform's topics, and who publishes into it."""
    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        kafka = Kafka(Folders.under(Path(folder), "kafka"), *ports.draw(2))
        async with started(kafka):
            await topics.create(kafka.address, ROOT / "protos" / "topics")
            async with AIOKafkaProducer(bootstrap_servers=kafka.address, acks="all") as producer:
                yield kafka.address, producer


async def start_operator(stage: Stage, kafka: str) -> tuple[Process, Process]:
    """Bridge and operator, once the one has been heard of and the other leads."""
    place = stage.place
    bridge = {"KAFKA_BOOTSTRAP_SERVERS": kafka}
    reads = place.start("bridge", "groundswell_operator", "bridge", account=BRIDGE, environment=bridge)
    acts = place.start("operator")
    await place.leads(acts)

    async def heard() -> bool:
        policies = await stage.admin.items(place.policies)
        said = [each for policy in policies for each in policy.get("status", {}).get("conditions", ())]
        return any(each["type"] == "SourceConnected" and each["status"] == "True" for each in said)

    await until(heard, READY_S_MAX)
    return reads, acts
