"""What the tests of the bridge have in common: what spikes says into a log, a bridge that reads it, and how far that has come."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import cast

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from google.protobuf.message import Message

from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.bridge.consuming import GROUP_ID
from groundswell_operator.bridge.records import TOPIC
from tests.cluster.operating import BRIDGE, Operated, Process

END_S_MAX = 30.0


def event(
    kind: type[Message],
    identifier: str,
    level: Spike.Level.ValueType = Spike.VIRAL,
    sequence: int = 1,
    tenant: str = "acme",
    views: int = 1_000_000,
) -> Message:
    """What spikes says of one spike that was detected just now."""
    spike = Spike(
        name=f"spikes/{identifier}",
        tenant=tenant,
        kind="link",
        item="links/7",
        level=level,
        projected_views_hour=views,
    )
    spike.detected_time.GetCurrentTime()
    return kind(spike=spike, sequence=sequence)


async def publish(address: str, messages: Iterable[Message], timestamp_ms: int | None = None) -> None:
    """Onto partitions in turn, so that their order is nobody's."""
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        for number, each in enumerate(messages):
            headers = [("ce_type", each.DESCRIPTOR.full_name.encode())]
            await producer.send(
                TOPIC, each.SerializeToString(), partition=number % 4, headers=headers, timestamp_ms=timestamp_ms
            )
        await producer.flush()
    finally:
        await producer.stop()


def bridge(place: Operated, log: str, identity: str = "bridge") -> Process:
    return place.start(
        identity, "groundswell_operator", "bridge", account=BRIDGE, environment={"KAFKA_BOOTSTRAP_SERVERS": log}
    )


def end(place: Operated) -> None:
    """Ends the bridges of a place that run, by a signal: of one that is killed its group hears after ten seconds only."""
    running = [each.popen for each in place.processes if each.popen.poll() is None]
    bridges = [each for each in running if "bridge" in cast(Sequence[str], each.args)]
    for each in bridges:
        each.terminate()
    for each in bridges:
        each.wait(END_S_MAX)


def new_id() -> str:
    return secrets.token_hex(8)


async def committed(log: str) -> int:
    """The records whose offsets the group has left behind."""
    admin = AIOKafkaAdminClient(bootstrap_servers=log)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(GROUP_ID)
    except GroupCoordinatorNotAvailableError:  # there was no group yet
        return 0
    else:
        return sum(each.offset for each in offsets.values() if each.offset > 0)
    finally:
        await admin.close()


async def counts(process: Process, outcome: str, records: int) -> bool:
    """Whether a bridge has had so many records with an outcome."""
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as asking:
            figures = (await asking.get("/metrics")).text
    except httpx.TransportError:  # it has only just begun
        return False
    return f'groundswell_bridge_records_total{{outcome="{outcome}"}} {records}.0' in figures
