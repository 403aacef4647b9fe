"""Single raises: from a record in the log to the first write, and to the last ready pod."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaProducer

from benchmarks.scaling.stage import POLICY, READERS, READERS_TIMES, WEB_TIMES, Stage, make_anew
from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeStarted
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.bridge.records import TOPIC, object_name
from tests.cluster.control_plane.api import Object, until
from tests.cluster.operating import ACCOUNT, BRIDGE

POLL_S = 0.05
LOOKED_FROM_S = 0.8
"""Pods are ready a second after their start: nobody looks before, so that the looks are not in the way."""
RAISE_S_MAX, RETURN_S_MAX = 60.0, 120.0
REST_S = 2.0
"""Between two raises: the controller manager may spend a burst of requests again after 30 / 20 s."""


@dataclass(frozen=True, slots=True)
class Raised:
    """Seconds from a record's own time."""

    created_s: float
    """Until the bridge asked for its object."""
    written_s: float
    """Until the operator asked for the first floor."""
    steps_s: Mapping[str, float]
    """Until each request in between, the first of its kind."""
    readers_s: float
    ready_s: float
    """Until the last of ten times the pods was ready."""


async def publish(producer: AIOKafkaProducer) -> tuple[str, float]:
    """A record of a spike that is detected now; the spike's id, and the record's time in seconds since 1970."""
    identifier = secrets.token_hex(8)
    spike = Spike(
        name=f"spikes/{identifier}",
        tenant="acme",
        kind="link",
        item="links/7",
        level=Spike.VIRAL,
        projected_views_hour=10_000_000,
    )
    spike.detected_time.GetCurrentTime()
    headers = [("ce_type", SpikeStarted.DESCRIPTOR.full_name.encode())]
    body = SpikeStarted(spike=spike, sequence=1).SerializeToString()
    told = await producer.send_and_wait(TOPIC, body, partition=0, headers=headers)
    return identifier, told.timestamp / 1000


async def raised(stage: Stage, producer: AIOKafkaProducer, web: int) -> Raised:
    """Publishes a record and waits until ten times `web` pods are ready; all is as before when it returns."""
    stage.audit.skip()
    identifier, recorded_s = await publish(producer)
    readers_s, ready_s = await asyncio.gather(
        _ready_s(stage, "readers", READERS * READERS_TIMES), _ready_s(stage, "web", web * WEB_TIMES)
    )
    steps = _steps(stage, recorded_s)
    found = Raised(
        created_s=steps["bridge create viralspikes"],
        written_s=steps["operator patch horizontalpodautoscalers"],
        steps_s=steps,
        readers_s=readers_s - recorded_s,
        ready_s=ready_s - recorded_s,
    )
    await _given_back(stage, identifier, web)
    return found


async def _ready_s(stage: Stage, name: str, replicas: int) -> float:
    """When so many pods of a Deployment were seen to be ready."""
    await asyncio.sleep(LOOKED_FROM_S)
    deadline_s = time.monotonic() + RAISE_S_MAX
    while time.monotonic() < deadline_s:
        status = (await stage.admin.get(stage.place.deployment(name)))["status"]
        if status.get("readyReplicas", 0) >= replicas:
            return time.time()
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"after {RAISE_S_MAX} s {name} has not {replicas} ready pods")


def _steps(stage: Stage, recorded_s: float) -> dict[str, float]:
    """When operator and bridge first asked for each kind of thing."""
    found: dict[str, float] = {}
    accounts = {f"system:serviceaccount:{stage.place.namespace}:{name}": name for name in (ACCOUNT, BRIDGE)}
    for each in stage.audit.more(lambda each: each["user"]["username"] in accounts):
        asked_s = datetime.fromisoformat(each["requestReceivedTimestamp"]).timestamp() - recorded_s
        if asked_s >= 0:
            found.setdefault(_step(accounts[each["user"]["username"]], each), round(asked_s, 4))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _step(account: str, event: Object) -> str:
    about = event["objectRef"]
    parts = [about["resource"], about.get("subresource")]
    return f"{account.removeprefix('groundswell-')} {event['verb']} {'/'.join(filter(None, parts))}"


async def _given_back(stage: Stage, identifier: str, web: int) -> None:
    """Has the operator give the raise back, and makes all as it was."""
    path = f"{stage.place.spikes}/{object_name(POLICY, identifier)}"
    await stage.admin.delete(path)
    await until(lambda: stage.place.gone(path), RETURN_S_MAX)
    await make_anew(stage, web)
    await asyncio.sleep(REST_S)
