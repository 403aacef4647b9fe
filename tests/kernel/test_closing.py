"""Consumers that end: closed while their broker is away, or given up by their driver."""

import asyncio
import secrets
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from groundswell.kernel.bus.connecting import opened
from groundswell.kernel.bus.intents import MemberDied, Membership
from tests.kernel.streaming import until


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
