"""faust under our rules: with the numbers at which plain faust commits past unfinished work, and across a crash."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from groundswell.kernel import streams
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.replay import replay
from groundswell.kernel.streams.guarded import GuardedConsumer, GuardedTransport, OffsetGuard
from groundswell.kernel.streams.running import CHECK_S, COMMIT_S, app_of
from tests.kernel.streaming import Spy, committed, quiet, running, sent, until

PARTITION = TP("frames", 0)


def consumer_of(kind: type, stream: streams.Stream) -> Any:
    app = app_of(stream)
    transport = GuardedTransport(app.conf.broker_consumer, app, loop=app.loop)
    made = kind(transport, callback=lambda message: None, on_partitions_revoked=None, on_partitions_assigned=None)
    made.app.topics.acks_enabled_for = lambda topic: True
    return made


def message_at(offset: int) -> ConsumerMessage:
    return ConsumerMessage("frames", 0, offset, 0.0, 0, {}, None, b"", None, None, tp=PARTITION)


@pytest.mark.parametrize("committed", [None, 0])
async def test_no_commit_passes_an_unfinished_record(tmp_path: Path, committed: int | None) -> None:
    """Offsets 0 to 5 are read, 3 to 5 finish first. Plain faust would commit 6; the control shows that it would."""
    offsets = {}
    for kind in (driver.Consumer, GuardedConsumer):
        consumer = consumer_of(kind, quiet(tmp_path))
        consumer._committed_offset[PARTITION] = committed
        messages = [message_at(offset) for offset in range(6)]
        for message in messages:
            consumer.unacked.add(message)  # as faust's streams do, past track_message
        for message in messages[3:]:
            consumer.ack(message)
        offsets[kind] = consumer._new_offset(PARTITION)
    assert offsets[driver.Consumer] == 6, "plain faust no longer has this fault: the guard may go"
    assert offsets[GuardedConsumer] == 0


def test_the_guard_commits_up_to_the_oldest_unfinished_offset() -> None:
    guard = OffsetGuard()
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
    guard.assigned({PARTITION: 12})
    assert guard.committable(PARTITION) == 12


async def test_a_stream_that_died_reads_its_unfinished_records_again(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    """Every record is handled at least once across a crash in the middle. What comes in the batch that failed has had no effect."""
    first, second = Spy(), Spy()

    async def dies_at_20(records: Sequence[streams.Record]) -> None:
        if len(first.handled) + len(records) >= 20:
            raise ZeroDivisionError
        await first.handle(records)

    await sent(producer, topic, 40)
    with pytest.raises(streams.StreamDied):
        await asyncio.wait_for(streams.run(quiet(tmp_path, dies_at_20, first.rebuild, **names)), 60)
    assert [each.offset for each in first.assigned[0]] == [0, 0, 0, 0]
    async with running(quiet(tmp_path, second.handle, second.rebuild, **names)):
        await until(lambda: len({*first.handled, *second.handled}) == 40)
    assert [len(each) for each in second.assigned] == [4]


async def test_what_is_handled_is_committed_and_a_restart_goes_on_there(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    """Goal: a restart reads nothing twice that was committed. Method: 40 records, a stop, 4 more; control: a batch that is not done."""
    spy = Spy()
    await sent(producer, topic, 40)
    async with running(quiet(tmp_path, spy.handle, spy.rebuild, **names)):
        async with asyncio.timeout(30):
            while await committed(names) != [10, 10, 10, 10]:
                await asyncio.sleep(0.1)
        spy.gate.clear()
        await sent(producer, topic, 4)
        await asyncio.sleep(3 * COMMIT_S)
        assert await committed(names) == [10, 10, 10, 10], "what is not handled must not be committed"
    spy.gate.set()
    async with running(quiet(tmp_path, spy.handle, spy.rebuild, **names)):
        await until(lambda: len(spy.handled) >= 44)
    assert [each.offset for each in spy.assigned[-1]] == [10, 10, 10, 10]
    assert len(spy.handled) == len(set(spy.handled)) == 44


async def test_completeness_is_told_of_what_was_handled_not_of_what_was_fetched(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    spy = Spy()
    spy.gate.clear()
    await sent(producer, topic, 40)
    stream = quiet(tmp_path, spy.handle, spy.rebuild, **names, complete=spy.ages.append)
    async with running(stream):
        await asyncio.wait_for(stream.ready.wait(), 30)
        await asyncio.sleep(3 * CHECK_S)
        assert not spy.ages
        spy.gate.set()
        await until(lambda: spy.ages)
        assert len(spy.handled) == 40


async def test_a_log_that_is_shorter_than_the_commit_is_read_from_its_beginning(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    spy = Spy()
    await sent(producer, topic, 8)
    reader = AIOKafkaConsumer(bootstrap_servers=names["bootstrap"], group_id=names["group"], enable_auto_commit=False)
    await reader.start()
    reader.assign([TopicPartition(topic, 0)])
    await reader.commit({TopicPartition(topic, 0): 500})
    await reader.stop()
    async with running(quiet(tmp_path, spy.handle, spy.rebuild, **names)):
        await until(lambda: len(spy.handled) == 8)
        async with asyncio.timeout(30):
            while await committed(names) != [2, 2, 2, 2]:
                await asyncio.sleep(0.1)


async def test_a_replay_ends_where_the_log_does(producer: Producer, topic: str, kafka_address: str) -> None:
    await sent(producer, topic, 40)
    seen: list[int] = []
    async with asyncio.timeout(30):
        async for records in replay(kafka_address, topic, 1, since_ms=0, until=500):
            seen.extend(record.offset for record in records)
    assert seen == list(range(10))


def test_the_app_is_set_up_by_the_rules(tmp_path: Path) -> None:
    async def made() -> faust.App:
        return app_of(quiet(tmp_path))

    conf = asyncio.run(made()).conf
    assert (conf.stream_wait_empty, conf.topic_allow_declare, conf.table_standby_replicas, conf.producer_threaded) == (
        False,
        False,
        0,
        False,
    )
