"""Dead letters: what they are, and how they go back to where they came from once the cause is mended.

Redriving sends each letter to its own topic again, with its headers less the reason, and remembers how far it came by a consumer
group of its own, so that an interrupted redrive goes on where it stopped. Consumers drop what they had applied already.

Its key takes a letter to the partition that it came from. A frame of telemetry has none and is refused: under its old number its
rows would be dropped there as old, and in any other partition make readers drop the producer's next frames instead.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from groundswell.kernel import errors
from groundswell.kernel.bus.consumer import DEAD_LETTER_SUFFIX

GROUP = "groundswell.dlq"
REASON_HEADERS = frozenset({"dlq_reason", "dlq_group", "dlq_topic"})


class KeyMissing(errors.FailedPrecondition):
    """The letter cannot go back to the partition that it came from."""

    def __init__(self, letter: "DeadLetter") -> None:
        super().__init__(
            f"The letter {letter.offset} of partition {letter.partition} has no key, so it would not come back to its own "
            "partition, where alone it is known what of it was counted. It stays where it is, and so do those behind it."
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be applied: where it lies, what it was, why it is here and who gave it up."""

    partition: int
    offset: int
    key: str
    type: str
    reason: str
    group: str


async def list_letters(bootstrap: str, topic: str) -> list[DeadLetter]:
    """The dead letters of `topic` that were not redriven yet, oldest first per partition."""
    return [_letter(record) async for record, _ in _waiting(bootstrap, topic)]


async def redrive(bootstrap: str, topic: str) -> int:
    """Sends the waiting dead letters of `topic` to it again; returns how many. Raises `KeyMissing` at one without a key."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    await producer.start()
    count = 0
    try:
        async for record, consumer in _waiting(bootstrap, topic):
            if record.key is None:
                raise KeyMissing(_letter(record))
            headers = [(name, value) for name, value in record.headers if name not in REASON_HEADERS]
            await producer.send_and_wait(topic, record.value, key=record.key, headers=headers)
            await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
            count += 1
    finally:
        await producer.stop()
    return count


async def _waiting(bootstrap: str, topic: str) -> AsyncIterator[tuple[ConsumerRecord, AIOKafkaConsumer]]:
    """Each letter from the last redrive to the end as it is now, with the consumer that read it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=f"{GROUP}.{topic}", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = await _partitions(bootstrap, topic + DEAD_LETTER_SUFFIX)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            start = await consumer.committed(partition)
            begin = (await consumer.beginning_offsets([partition]))[partition]
            consumer.seek(partition, max(start or 0, begin))
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record, consumer
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topic: str) -> list[TopicPartition]:
    """The topic's partitions; none when there is no such topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return [TopicPartition(topic, each["partition"]) for entry in described for each in entry["partitions"]]


def _letter(record: ConsumerRecord) -> DeadLetter:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode("utf-8", "replace"),
        type=headers.get("ce_type", ""),
        reason=headers.get("dlq_reason", ""),
        group=headers.get("dlq_group", ""),
    )
