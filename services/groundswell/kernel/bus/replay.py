"""Reading a stretch of the log again, to rebuild what a process kept in memory."""

from collections.abc import AsyncIterator
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from groundswell.kernel.bus.connecting import opened

RECORDS_MAX = 64
ANSWER_MS_MAX = 5_000


async def replay(
    bootstrap: str, topic: str, partition: int, *, since_ms: int, until: int
) -> AsyncIterator[list[ConsumerRecord]]:
    """The records of `partition` that came at or after `since_ms` and lie below the offset `until`, oldest first, some at a time.

    A log that ends before `until` is read to its end. Raises `KafkaError` where the broker goes away, or the log loses that end meanwhile.
    """
    tp = TopicPartition(topic, partition)
    make = partial(
        AIOKafkaConsumer,
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=ANSWER_MS_MAX,
    )
    async with opened(make) as consumer:
        consumer.assign([tp])
        found = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        if found is None:
            return
        consumer.seek(tp, found.offset)
        until = min(until, (await consumer.end_offsets([tp]))[tp])
        while await consumer.position(tp) < until:
            records = (await consumer.getmany(tp, timeout_ms=500, max_records=RECORDS_MAX)).get(tp, [])
            if not records and (end := (await consumer.end_offsets([tp]))[tp]) < until:
                raise OffsetOutOfRangeError(
                    f"The log of {topic}-{partition} ends at {end}, and not at {until} any more."
                )
            if below := [record for record in records if record.offset < until]:
                yield below
