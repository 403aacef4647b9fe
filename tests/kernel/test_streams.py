"""faust under our rules: with the numbers at which plain faust commits past unfinished work, and across a crash."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from groundswell.kernel import streams

PARTITION = TP("frames", 0)


def consumer_of(kind: type, stream: streams.Stream) -> Any:
    app = streams.app_of(stream)
    transport = streams.GuardedTransport(app.conf.broker_consumer, app, loop=app.loop)
    made = kind(transport, callback=lambda message: None, on_partitions_revoked=None, on_partitions_assigned=None)
    made.app.topics.acks_enabled_for = lambda topic: True
    return made


def message_at(offset: int) -> ConsumerMessage:
    return ConsumerMessage("frames", 0, offset, 0.0, 0, {}, None, b"", None, None, tp=PARTITION)


def quiet(folder: Path, handle: Any = None, rebuild: Any = None, **names: Any) -> streams.Stream:
    async def nothing(_: Sequence[object]) -> None: ...

    given = {"bootstrap": "127.0.0.1:1", "group": "g", "topic": "frames", "instance": "i"} | names
    return streams.Stream(**given, data=folder, handle=handle or nothing, rebuild=rebuild or nothing)


@pytest.mark.parametrize("committed", [None, 0])
async def test_no_commit_passes_an_unfinished_record(tmp_path: Path, committed: int | None) -> None:
    """Offsets 0 to 5 are read, 3 to 5 finish first. Plain faust would commit 6; the control shows that it would."""
    offsets = {}
    for kind in (driver.Consumer, streams.GuardedConsumer):
        consumer = consumer_of(kind, quiet(tmp_path))
        consumer._committed_offset[PARTITION] = committed
        messages = [message_at(offset) for offset in range(6)]
        for message in messages:
            consumer.track_message(message)
        for message in messages[3:]:
            consumer.ack(message)
        offsets[kind] = consumer._new_offset(PARTITION)
    assert offsets[driver.Consumer] == 6, "plain faust no longer has this fault: the guard may go"
    assert offsets[streams.GuardedConsumer] == 0


def test_the_guard_commits_up_to_the_oldest_unfinished_offset() -> None:
    guard = streams.OffsetGuard()
    assert guard.committable(PARTITION) is None
    for offset in (10, 11, 14, 15):
        guard.begun(PARTITION, offset)
    guard.finished(PARTITION, 11)
    assert guard.committable(PARTITION) == 10
    guard.finished(PARTITION, 10)
    assert guard.committable(PARTITION) == 14
    guard.finished(PARTITION, 15)
    guard.finished(PARTITION, 14)
    assert guard.committable(PARTITION) == 16
    guard.forget({PARTITION})
    assert guard.committable(PARTITION) is None


async def until(condition: Any, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_stream_that_died_reads_its_unfinished_records_again(
    tmp_path: Path, producer: AIOKafkaProducer, topic: str, kafka_address: str
) -> None:
    """Every record is handled at least once across a crash in the middle, and the rebuild is told where the reading begins."""
    seen: list[tuple[int, int]] = []
    assigned: list[streams.Assignment] = []

    async def rebuild(assignments: Sequence[streams.Assignment]) -> None:
        assigned.extend(assignments)

    async def dies_at_20(records: Sequence[streams.Record]) -> None:
        seen.extend((record.partition, record.offset) for record in records)
        if len(seen) >= 20:
            raise ZeroDivisionError

    async def survives(records: Sequence[streams.Record]) -> None:
        seen.extend((record.partition, record.offset) for record in records)

    for n in range(40):
        await producer.send_and_wait(topic, b"%d" % n, partition=n % 4)
    names = {"bootstrap": kafka_address, "group": f"g-{topic}", "topic": topic, "instance": "one"}
    with pytest.raises(streams.StreamDied):
        await asyncio.wait_for(streams.run(quiet(tmp_path, dies_at_20, rebuild, **names)), 60)
    assert {each.offset for each in assigned} == {None}
    again = asyncio.create_task(streams.run(quiet(tmp_path, survives, rebuild, **names)))
    try:
        await until(lambda: len(set(seen)) == 40)
    finally:
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
    assert len(assigned) == 8
    assert isinstance(assigned[0], streams.Assignment)


def test_the_app_is_set_up_by_the_rules(tmp_path: Path) -> None:
    async def made() -> faust.App:
        return streams.app_of(quiet(tmp_path))

    conf = asyncio.run(made()).conf
    assert (conf.stream_wait_empty, conf.topic_allow_declare, conf.table_standby_replicas, conf.producer_threaded) == (
        False,
        False,
        0,
        False,
    )
