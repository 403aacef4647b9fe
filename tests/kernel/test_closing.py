"""Consumers that end: closed while their broker is away, given up by their driver, or waiting for each other."""

import asyncio
import secrets
from functools import partial

import pytest
import uvloop
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, TopicPartition
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError
from aiokafka.protocol.metadata import MetadataRequest

from groundswell.kernel.bus import connecting, consumer, intents
from groundswell.kernel.bus.connecting import opened
from groundswell.kernel.bus.intents import Fenced, MemberDied, Membership
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.replay import replay
from tests.broker import PARTITIONS
from tests.kernel.streaming import sent, until


async def lost(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Lets the consumer read, and its broker go away: it then waits a tenth of a second before each try to fetch again."""
    tries: list[object] = []

    async def refused(*request: object, **_: object) -> None:
        tries.append(request)
        raise KafkaConnectionError

    consumer._client.send = refused
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 0)
    await until(lambda: tries)


@pytest.mark.promise("LINKS-4")
async def test_a_consumer_that_waits_to_fetch_again_ends_whole_and_cancels_nobody(
    kafka_address: str, topic: str
) -> None:
    """aiokafka raises the cancellation of its own fetch: who closes a consumer would end as if told to, without a word."""
    async with opened(partial(AIOKafkaConsumer, bootstrap_servers=kafka_address)) as consumer:
        await lost(consumer, topic)
    assert consumer._client._sync_task is None
    assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_who_is_told_to_end_ends_also_when_its_consumer_waits_to_fetch_again(
    kafka_address: str, topic: str
) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async with opened(partial(AIOKafkaConsumer, bootstrap_servers=kafka_address)) as consumer:
            await lost(consumer, topic)
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def test_a_member_whose_driver_has_given_up_the_group_does_not_wait_for_it_for_ever(
    kafka_address: str, topic: str
) -> None:
    member = Membership(kafka_address, f"g-{topic}", topic, instance=secrets.token_hex(4))

    async def unexpected() -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(60), member.joined():
        while not member.given:
            await member.records(0.1)
        coordinator = member._consumer._coordinator
        coordinator.ensure_coordinator_known = unexpected
        coordinator.request_rejoin()
        with pytest.raises(MemberDied, match="cannot return"):
            await reading_on(member)


async def reading_on(member: Membership) -> None:
    while True:
        await member.records(0.1)


class Frozen:
    """A consumer whose broker does not answer while it leaves its group."""

    def __init__(self) -> None:
        self._client, self._fetcher = AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), None

    async def start(self) -> None: ...

    async def stop(self) -> None:
        await asyncio.Event().wait()


async def test_no_consumer_is_waited_for_that_waits_for_a_frozen_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "END_S_MAX", 0.1)
    async with asyncio.timeout(30), opened(Frozen):
        pass


async def test_a_consumer_whose_driver_cancels_what_nobody_wanted_cancelled_joins_its_group_anew(
    monkeypatch: pytest.MonkeyPatch, kafka_address: str, topic: str, producer: Producer
) -> None:
    """As it does where a member that was idle for too long is told of a rebalance while it leaves."""
    joined: list[object] = []

    async def cancelled(*given: object) -> None:
        joined.append(given)
        if len(joined) == 1:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    async def take(_: object) -> None: ...

    monkeypatch.setattr(consumer, "_consume_by", cancelled)
    task = asyncio.create_task(consumer.consume(kafka_address, f"g-{topic}", [topic], take, producer))
    await until(lambda: len(joined) == 2)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


async def test_a_member_that_walks_the_log_as_its_group_is_given_out_anew_is_fenced_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, kafka_address: str, topic: str, producer: Producer
) -> None:
    """Goal: the walk, which is in a turn, and the driver, which waits for that turn, do not wait for each other for ever."""
    monkeypatch.setattr(intents, "ASSIGNED_S_MAX", 2.0)
    member = Membership(kafka_address, f"g-{topic}", topic, instance=secrets.token_hex(4))
    await sent(producer, topic, PARTITIONS)

    async def given() -> None:
        while len(member.partitions) < PARTITIONS:
            await member.records(0.1)

    async with asyncio.timeout(60), member.joined():
        await given()
        async with member.turn():
            member._consumer._coordinator.request_rejoin()
            await until(lambda: member._consumer._subscription.reassignment_in_progress)
            with pytest.raises(Fenced, match="given out anew"):
                await member.stretch(0, 0, 0)
        await until(lambda: not member._consumer._subscription.reassignment_in_progress)
        await given()
        async with member.turn():
            assert [record.value for record in await member.stretch(0, 0, 0)] == [b"0"]


async def test_a_replay_whose_log_loses_its_end_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, kafka_address: str, topic: str, producer: Producer
) -> None:
    await sent(producer, topic, PARTITIONS)
    told, real = [5], AIOKafkaConsumer.end_offsets

    async def end_offsets(reader: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, told.pop()) if told else await real(reader, partitions)

    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", end_offsets)
    seen: list[bytes | None] = []

    async def read() -> None:
        async for records in replay(kafka_address, topic, 0, since_ms=0, until=5):
            seen.extend(record.value for record in records)

    with pytest.raises(OffsetOutOfRangeError, match="ends at 1"):
        await asyncio.wait_for(read(), 60)
    assert seen == [b"0"]


@pytest.mark.promise("LINKS-4")
def test_a_connection_that_was_closed_under_a_request_is_a_broken_one(kafka_address: str) -> None:
    """Goal: no task ends for good because the broker went between two words. Method: the processes' own loop, which refuses to write."""
    host, port = kafka_address.split(":")

    async def ask() -> None:
        connection = await create_conn(host, int(port))
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # in which the loop closes the socket; the connection has not heard of it yet
        with pytest.raises(RuntimeError, match="closed"):
            connection._writer.write(b"the control")
        with pytest.raises(KafkaConnectionError):
            await connection.send(MetadataRequest([]))
        assert not connection.connected()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
