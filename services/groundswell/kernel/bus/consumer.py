"""Consuming events: in order per partition, at least once, with dead letters for what can never succeed.

A handler applies an event or raises. Errors that may pass (`Unavailable`, `Conflict`) are tried again without end, since skipping
an event because a database is away would lose it; everything else is tried `TRIES_MAX` times and then goes to `<topic>.dlq` with
the reason. Offsets are committed after the effect, never before, so a handler may get an event again: its effect is absolute or
versioned, or it asks `Tx.first_time`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord
from opentelemetry import trace
from prometheus_client import Counter

from groundswell.kernel import errors, failpoints, telemetry
from groundswell.kernel.bus.connecting import BROKER_RETRY_S, opened, told_to_end
from groundswell.kernel.bus.events import Incoming, MalformedEvent, incoming
from groundswell.kernel.bus.producer import Producer

log = logging.getLogger(__name__)

TRIES_MAX = 5
BACKOFF_S = 0.1
BACKOFF_S_MAX = 5.0
BATCH_RECORDS_MAX = 500
REJOIN_S_MIN, REJOIN_S_MAX = 1.0, 60.0
"""Each rejoin moves the group's partitions once more."""
METADATA_MS_MAX = 5_000
"""How long a topic may be there before a group notices that has joined without it: on a cluster processes start beside what makes topics.
Plain consumers join when their topics are there."""
DEAD_LETTER_SUFFIX = ".dlq"
CUT_BYTES_MAX = 64 << 10
"""What is kept of the body of a record that is too large for a dead letter; of its key as much, and of its headers."""
CUT_HEADER = "dlq_cut_bytes"
"""Says of a cut letter how long its body was."""

_CONSUMED = Counter("groundswell_events_consumed_total", "Events whose effect was applied.", ["group", "topic"])
_REJOINED = Counter("groundswell_events_rejoins_total", "Consumers that ended and joined their group anew.", ["group"])
_DEAD = Counter("groundswell_events_dead_total", "Events that went to the dead letters.", ["group", "topic"])

Handle = Callable[[Incoming], Awaitable[None]]
HandleBatch = Callable[[Sequence[Incoming]], Awaitable[None]]


async def consume(bootstrap: str, group: str, topics: Sequence[str], handle: Handle, producer: Producer) -> None:
    """Consumes until cancelled, one event at a time per partition."""

    async def handle_each(events: Sequence[Incoming]) -> None:
        for event in events:
            await _handled(event, handle, group, producer)

    await _consume(bootstrap, group, topics, handle_each, producer)


async def consume_batches(
    bootstrap: str, group: str, topics: Sequence[str], handle: HandleBatch, producer: Producer
) -> None:
    """Consumes until cancelled, up to 500 events of one partition at a time.

    When a batch fails for good it is tried event by event, so that only the bad ones go to the dead letters.
    """

    async def handle_one(event: Incoming) -> None:
        await handle([event])

    async def handle_all(events: Sequence[Incoming]) -> None:
        try:
            await handle(events)
        except Exception:  # each event then meets the retry and dead-letter rules on its own
            log.warning("a batch of %d events of %s failed, trying them one by one", len(events), group, exc_info=True)
            for event in events:
                await _handled(event, handle_one, group, producer)

    await _consume(bootstrap, group, topics, handle_all, producer)


async def _consume(bootstrap: str, group: str, topics: Sequence[str], handle: HandleBatch, producer: Producer) -> None:
    """Consumes until cancelled. What the driver cannot bear, of the coordinator or of the log, ends a consumer; the next one goes on at the
    last commit, and comes the later the shorter each lives."""
    make = partial(
        AIOKafkaConsumer,
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        max_poll_interval_ms=600_000,
    )
    pause_s = REJOIN_S_MIN
    while True:
        try:
            async with opened(make) as consumer:
                began_s = time.monotonic()
                await _consume_by(consumer, group, handle, producer)
        except (KafkaError, asyncio.CancelledError) as error:
            if told_to_end():
                raise
            _REJOINED.labels(group).inc()
            log.warning("%s joins its group anew in %.0f s: %r", group, pause_s, error)
        await asyncio.sleep(pause_s)
        lived = time.monotonic() - began_s > REJOIN_S_MAX
        pause_s = REJOIN_S_MIN if lived else min(2 * pause_s, REJOIN_S_MAX)


async def _consume_by(consumer: AIOKafkaConsumer, group: str, handle: HandleBatch, producer: Producer) -> None:
    while True:
        batches = await consumer.getmany(timeout_ms=1_000, max_records=BATCH_RECORDS_MAX)
        for partition, records in batches.items():
            await handle(await _parsed(records, group, producer))
            _CONSUMED.labels(group, partition.topic).inc(len(records))
            failpoints.reach("consumer.before_commit")
            await _commit(consumer, partition, records[-1].offset + 1)


async def _commit(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
    try:
        await consumer.commit({partition: offset})
    except (CommitFailedError, IllegalStateError):
        # The partition went to another member, which reads these events again; an effect bears that, or keeps an inbox.
        log.info("the partition %s moved before its commit", partition)
    except KafkaError as error:
        log.warning("a commit waits for the next one: %s", type(error).__name__)


async def _parsed(records: Sequence[ConsumerRecord], group: str, producer: Producer) -> list[Incoming]:
    events = []
    for record in records:
        try:
            events.append(incoming(record))
        except MalformedEvent as error:
            await bury(record.topic, record.key, record.value, list(record.headers), error, group, producer)
    return events


async def _handled(event: Incoming, handle: Handle, group: str, producer: Producer) -> None:
    tries, backoff_s = 0, BACKOFF_S
    while True:
        try:
            with telemetry.tracer().start_as_current_span(
                f"{group} {event.type}", kind=trace.SpanKind.CONSUMER, links=telemetry.link_to(event.traceparent)
            ):
                return await handle(event)
        except Exception as error:
            tries += 1
            passing = isinstance(error, errors.Error) and error.retryable
            if not passing and (tries >= TRIES_MAX or isinstance(error, errors.Error)):
                log.exception("the event %s of %s can not be applied", event.id, event.topic)
                headers = list(event.headers)
                return await bury(event.topic, event.key.encode(), event.body, headers, error, group, producer)
            log.warning(
                "the event %s of %s is tried again in %.1f s: %s",
                event.id,
                event.topic,
                backoff_s,
                type(error).__name__,
            )
        await asyncio.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)


async def bury(
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    error: Exception,
    group: str,
    producer: Producer,
) -> None:
    """Sends a record to the dead letters; waits for the broker as long as it takes, since the alternative is to lose it.

    One that is too large with its reason is cut, and says so: it would be refused for ever.
    """
    if key is None and value is None:  # the driver sends no such record
        value = b""
    whole = letter = _Letter(key, value, headers, f"{type(error).__name__}: {error}"[:1000])
    kept_bytes = CUT_BYTES_MAX
    while True:
        origin = [("dlq_reason", letter.reason.encode()), ("dlq_group", group.encode()), ("dlq_topic", topic.encode())]
        try:
            await producer.send_and_wait(
                topic + DEAD_LETTER_SUFFIX, letter.value, key=letter.key, headers=[*letter.headers, *origin]
            )
            _DEAD.labels(group, topic).inc()
            return
        except MessageSizeTooLargeError:
            letter, kept_bytes = whole.cut(kept_bytes), kept_bytes // 2
        except KafkaError as failure:
            log.warning("a dead letter waits for Kafka: %s", type(failure).__name__)
        await asyncio.sleep(BROKER_RETRY_S)


@dataclass(frozen=True, slots=True)
class _Letter:
    """What is kept of a record, and why it is no event."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reason: str

    def cut(self, bytes_max: int) -> "_Letter":
        """The beginning of its body and key, and those headers that fit."""
        body, left = self.value or b"", bytes_max
        headers: list[tuple[str, bytes | None]] = [(CUT_HEADER, b"%d" % len(body))]
        for name, value in self.headers:
            size = len(name.encode()) + len(value or b"")
            if size <= left:
                headers.append((name, value))
                left -= size
        kept = f"It is too large for a dead letter: of the {len(body)} bytes of its body at most {bytes_max} are kept."
        return _Letter(self.key and self.key[:bytes_max], body[:bytes_max], headers, f"{self.reason} {kept}")
