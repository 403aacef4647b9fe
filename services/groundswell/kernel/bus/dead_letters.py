"""Dead letters: what they are, and how they go back to where they came from once the cause is mended.

Redriving sends each letter to its own topic again, with its headers less the reason, and remembers how far it came by a consumer
group of its own, so that an interrupted redrive goes on where it stopped; the last letter may then go twice. All groups of the topic
read it again, also those that had applied it. Brokers forget a group that nobody has joined for a week, so what went back is deleted, as
far as nothing before it stays: a letter behind one that was cut is only passed over, and goes back once more when the group is forgotten.

Its key takes a letter back to the partition that it came from. A frame of telemetry has none and is refused: under its old number its
rows would be dropped there as old, and in any other partition make readers drop the producer's next frames instead. A letter that holds
only the beginning of its record is passed over.
"""

import difflib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from groundswell.kernel import errors
from groundswell.kernel.bus.committed import committed_within, connected
from groundswell.kernel.bus.connecting import ended
from groundswell.kernel.bus.consumer import CUT_HEADER, DEAD_LETTER_SUFFIX
from groundswell.kernel.bus.producer import Producer

log = logging.getLogger(__name__)

GROUP = "groundswell.dlq"
ANSWER_MS_MAX = 10_000
COORDINATOR_S_MAX = 10.0
"""How long a coordinator that cannot say yet how far the last redrive came is asked again."""
NAMED_MAX = 10
"""Topics that a refusal names, those first whose names are nearest to the one that was asked for."""
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


class NoDeadLetters(errors.NotFound):
    """No dead letters are kept of such a topic."""

    def __init__(self, topic: str, kept: Sequence[str]) -> None:
        near = sorted(kept, key=lambda each: (-difflib.SequenceMatcher(None, topic, each).ratio(), each))
        more = f" and {len(kept) - NAMED_MAX} more" if len(kept) > NAMED_MAX else ""
        named = ", ".join(near[:NAMED_MAX]) or "no topic"
        super().__init__(f"No dead letters are kept of {topic!r:.80}. They are of: {named}{more}.")


async def list_letters(bootstrap: str, topic: str) -> list[DeadLetter]:
    """The dead letters of `topic` that were not redriven yet, oldest first per partition.

    Raises `NoDeadLetters`, and `Unavailable` when the broker does not answer.
    """
    with _asking(bootstrap):
        return [_letter(record) async for record, _, redriven in _letters(bootstrap, topic) if not redriven]


async def redrive(bootstrap: str, topic: str, *, coordinator_s_max: float = COORDINATOR_S_MAX) -> int:
    """Sends the waiting dead letters of `topic` to it again; returns how many. Raises as `list_letters` does, and `KeyMissing` at one
    without a key."""
    producer = Producer.of_events(bootstrap)
    count = 0
    ends_of_gone: dict[TopicPartition, int] = {}
    staying: set[TopicPartition] = set()
    try:
        with _asking(bootstrap):
            async for record, consumer, redriven in _letters(bootstrap, topic, coordinator_s_max):
                partition, is_cut = TopicPartition(record.topic, record.partition), _is_cut(record)
                if not redriven:
                    count += await _send_back(producer, topic, record)
                    await consumer.commit({partition: record.offset + 1})
                if is_cut:
                    staying.add(partition)
                elif partition not in staying:
                    ends_of_gone[partition] = record.offset + 1
    finally:
        await producer.close()
        await _delete_before(bootstrap, ends_of_gone)
    return count


async def _send_back(producer: Producer, topic: str, record: ConsumerRecord) -> int:
    """How many letters that were: none that was cut."""
    if _is_cut(record):
        log.warning("the letter %d of partition %d was cut, so it does not go back", record.offset, record.partition)
        return 0
    if record.key is None:
        raise KeyMissing(_letter(record))
    headers = [(name, value) for name, value in record.headers if name not in REASON_HEADERS]
    await producer.send_and_wait(topic, record.value, key=record.key, headers=headers)
    return 1


def _is_cut(record: ConsumerRecord) -> bool:
    return any(name == CUT_HEADER for name, _ in record.headers)


async def _delete_before(bootstrap: str, ends: Mapping[TopicPartition, int]) -> None:
    """Deletes the letters before each offset; where the broker does not, they stay, and the group alone knows that they went back."""
    if not ends:
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await admin.delete_records({partition: RecordsToDelete(end) for partition, end in ends.items()})
    except KafkaError as error:
        log.warning(
            "the letters that went back could not be deleted (%s): in a week they would go back again",
            type(error).__name__,
        )
    finally:
        await admin.close()


@contextmanager
def _asking(bootstrap: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise errors.Unavailable(f"The broker at {bootstrap} does not answer. Start it, then try again.") from error


async def _letters(
    bootstrap: str, topic: str, coordinator_s_max: float = COORDINATOR_S_MAX
) -> AsyncIterator[tuple[ConsumerRecord, AIOKafkaConsumer, bool]]:
    """Each letter to the end as it is now, with the consumer that read it, and whether a redrive came past it already."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=f"{GROUP}.{topic}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=ANSWER_MS_MAX,
    )
    try:
        await consumer.start()
        partitions = await _partitions(bootstrap, topic)
        consumer.assign(partitions)
        async with connected(bootstrap) as client:
            marks = await committed_within(coordinator_s_max, client, f"{GROUP}.{topic}", partitions)
        # After the marks: another redrive that goes on meanwhile may come past an end that was asked for before.
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        redriven = {partition: _passed(partition, mark, ends[partition]) for partition, mark in marks.items()}
        for partition in partitions:
            consumer.seek(partition, begins[partition])
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            found = await consumer.getmany(timeout_ms=500)
            if not found:
                await consumer.end_offsets(partitions)  # a broker that is away says so here, and nowhere else
            for partition, records in found.items():
                for record in records:
                    yield record, consumer, record.offset < redriven[partition]
    finally:
        await ended(consumer)


def _passed(partition: TopicPartition, mark: OffsetAndMetadata | None, end: int) -> int:
    """The offset that redrives came to: none where the mark lies beyond the end, as that of letters which the log has lost."""
    if mark is None or mark.offset <= end:
        return mark.offset if mark else 0
    log.warning(
        "redrives came to %d in partition %d of %s, which ends at %d: it is made anew or has lost letters. All that it has go back.",
        mark.offset,
        partition.partition,
        partition.topic,
        end,
    )
    return 0


async def _partitions(bootstrap: str, topic: str) -> list[TopicPartition]:
    """The partitions of the dead letters of `topic`; raises `NoDeadLetters`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        described = {entry["topic"]: entry["partitions"] for entry in await admin.describe_topics()}
    finally:
        await admin.close()
    dead = topic + DEAD_LETTER_SUFFIX
    if dead not in described:
        kept = [each.removesuffix(DEAD_LETTER_SUFFIX) for each in described if each.endswith(DEAD_LETTER_SUFFIX)]
        raise NoDeadLetters(topic, kept)
    return [TopicPartition(dead, each["partition"]) for each in described[dead]]


def _letter(record: ConsumerRecord) -> DeadLetter:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode("utf-8", "replace"),
        type=headers.get("ce_type", ""),
        reason=headers.get("dlq_reason", ""),
        group=headers.get("dlq_group", ""),
    )
