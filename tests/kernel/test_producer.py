"""A producer whose connection lost a record, whose sender died, or that ends while the broker is away."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, ProducerClosed

from groundswell.kernel.bus.frames import voids
from groundswell.kernel.bus.producer import Producer, Record
from tests.broker import Broker, fresh_topic

SMALL, LARGE = bytes(1_000), bytes(10_000)
"""The broker refuses the larger."""


@pytest.fixture
async def narrow(kafka_address: str) -> str:
    """A topic of two partitions that refuses large records: after that, what aiokafka's connection sends behind one as well."""
    name = f"narrow-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1, topic_configs={"max.message.bytes": "4000"})])
    finally:
        await admin.close()
    return name


@pytest.fixture
async def events(kafka_address: str) -> AsyncIterator[Producer]:
    made = Producer.of_events(kafka_address)
    yield made
    await made.close()


async def ends(kafka_address: str, topic: str) -> list[int]:
    """How many records each partition has."""
    partitions = [TopicPartition(topic, number) for number in range(2)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_address)
    await consumer.start()
    try:
        found = await consumer.end_offsets(partitions)
        return [found[partition] for partition in partitions]
    finally:
        await consumer.stop()


async def test_a_partition_goes_on_after_a_record_that_was_lost(
    events: Producer, narrow: str, kafka_address: str
) -> None:
    """Goal: no relay repeats its rows for ever. Without a new connection the broker says OutOfOrderSequenceNumber from here on."""
    for _ in range(2):
        await events.send_and_wait(narrow, SMALL, partition=0)
        with pytest.raises(MessageSizeTooLargeError):
            await events.send_and_wait(narrow, LARGE, partition=0)
    await events.send_and_wait(narrow, SMALL, partition=0)
    assert await ends(kafka_address, narrow) == [3, 0]


async def test_nothing_overtakes_a_lost_record_over_a_connection_that_another_has_made(
    narrow: str, kafka_address: str
) -> None:
    """Method: batches of one record, so that many are still to be handed over when the first is lost."""
    producer = Producer(kafka_address, enable_idempotence=True, acks="all", max_batch_size=1_500)

    async def others() -> None:
        while True:
            await asyncio.gather(producer.send_and_wait(narrow, SMALL, partition=1), return_exceptions=True)

    try:
        await producer.send_and_wait(narrow, SMALL, partition=0)
        beside = asyncio.create_task(others())
        with pytest.raises(KafkaError):
            await producer.send_all([Record(narrow, body, partition=0) for body in [LARGE, *[SMALL] * 200]])
        beside.cancel()
        await asyncio.wait({beside})
    finally:
        await producer.close()
    assert (await ends(kafka_address, narrow))[0] == 1


async def test_a_producer_whose_sender_died_sends_again(events: Producer, topic: str) -> None:
    """Method: what aiokafka's sender waits for raises, as a fault in it would."""
    await events.send_and_wait(topic, b"before", partition=0)
    dying = events._connection
    assert dying is not None
    dying._message_accumulator.waiter().set_exception(RuntimeError("a fault"))
    await asyncio.wait({dying._sender.sender_task})
    await events.send_and_wait(topic, b"after", partition=0)


@pytest.mark.parametrize("frozen", [False, True], ids=["gone", "frozen"])
async def test_a_producer_ends_while_the_broker_is_away_and_tells_who_waits_for_it(
    tmp_path: Path, frozen: bool
) -> None:
    """Goal: no process takes its whole grace to end, and is killed. aiokafka never lets go of an idempotent batch."""
    broker = Broker(tmp_path)
    await broker.start()
    assert broker._child is not None
    try:
        topic = await fresh_topic(broker.address, "left")
        before = asyncio.all_tasks()
        producer = Producer.of_events(broker.address)
        await producer.send_and_wait(topic, b"sent", partition=0)
        if frozen:
            broker.freeze()
        else:
            await broker.stop()
        waiting = [asyncio.create_task(producer.send_and_wait(topic, bytes(9_000), partition=n % 2)) for n in range(9)]
        await asyncio.sleep(0)
        await asyncio.wait_for(producer.close(), 60)
        await asyncio.wait(waiting, timeout=60)
        assert {type(each.exception()) for each in waiting} == {ProducerClosed}
        assert asyncio.all_tasks() == before, "nothing of it goes on"
        with pytest.raises(ProducerClosed):
            await producer.send_and_wait(topic, b"late")
    finally:
        if frozen:
            broker.thaw()
        await broker.stop()


@pytest.mark.parametrize("cancelled", [False, True], ids=["waits", "cancelled"])
async def test_who_appends_voids_is_kept_by_no_broker_that_falls_silent(tmp_path: Path, cancelled: bool) -> None:
    """Goal: neither its turn nor its end waits. aiokafka repeats an idempotent batch for ever. Method: the broker freezes as the voids are
    on their way, and once more where it was quicker."""
    broker = Broker(tmp_path)
    await broker.start()
    assert broker._child is not None
    try:
        topic, before = await fresh_topic(broker.address, "voids"), asyncio.all_tasks()
        while True:
            appending = asyncio.create_task(
                voids.append(broker.address, topic, 0, 3, wait_s_max=60 if cancelled else 3)
            )
            while not any("_send_produce_req" in repr(task.get_coro()) for task in asyncio.all_tasks()):
                await asyncio.sleep(0)
            broker.freeze()
            if not (await asyncio.wait({appending}, timeout=1))[0]:
                break
            broker.thaw()
        if cancelled:
            appending.cancel()
        await asyncio.wait({appending}, timeout=30)
        if cancelled:
            assert appending.cancelled()
        else:
            assert isinstance(appending.exception(), KafkaTimeoutError)
        assert asyncio.all_tasks() == before, "nothing of it goes on"
    finally:
        broker.thaw()
        await broker.stop()
