"""A stream from its description to its end: the faust app, the rebuild of what it is given, and the watch over it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP, EventT, StreamT
from mode import CrashingSupervisor

from groundswell.kernel.bus.committed import committed, connected
from groundswell.kernel.bus.connecting import BROKER_RETRY_S, opened, told_to_end
from groundswell.kernel.bus.consumer import METADATA_MS_MAX
from groundswell.kernel.streams.guarded import ANSWER_S_MAX, GuardedConsumer, GuardedTransport
from groundswell.kernel.streams.progress import Completeness, Ends, Movement

log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 16
BATCH_S_MAX = 0.05
BUFFER_RECORDS_MAX = 64
COMMIT_S = 1.0
CHECK_S = 0.5
STALL_S_MAX = 60.0
"""How long a partition may stand still although its log goes on."""
SESSION_S = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log, as bytes."""

    partition: int
    offset: int
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition that this process begins to read, at `offset`."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Stream:
    """One topic, read by one group in one process.

    `handle` applies a batch; when it raises, the process dies and the batch comes again. `rebuild` is awaited before the first
    record of new partitions is read, and again when the broker went away in it. `instance` names this process in the group, so
    that its restart does not move partitions. `complete` is told about twice a second how many seconds ago all that was in the log
    then had been handled; when it is not told, the stream or the broker stands still.
    """

    bootstrap: str
    group: str
    topic: str
    instance: str
    data: Path
    handle: Callable[[Sequence[Record]], Awaitable[None]]
    rebuild: Callable[[Sequence[Assignment]], Awaitable[None]]
    complete: Callable[[float], None] = lambda _: None
    stall_s_max: float = STALL_S_MAX
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once partitions were assigned and rebuilt."""
    rebuilding: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while new partitions are being rebuilt."""


class StreamDied(Exception):
    """The stream processor crashed or stands still; the process must be started again."""


def app_of(stream: Stream) -> faust.App:
    """A faust app for `stream`, set up by the rules above; made here, so that no app is global."""
    app = faust.App(
        stream.group,
        broker=f"kafka://{stream.bootstrap}",
        store="memory://",
        datadir=str(stream.data),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFER_RECORDS_MAX,
        table_standby_replicas=0,
        producer_threaded=False,
        agent_supervisor=CrashingSupervisor,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=stream.instance,
        consumer_metadata_max_age_ms=METADATA_MS_MAX,
        broker_commit_interval=COMMIT_S,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=2.0,
        loop=asyncio.get_running_loop(),
    )
    app.boot_strategy.enable_kafka_producer = False  # nothing is produced, and its start would need a broker
    app.transport = GuardedTransport(app.conf.broker_consumer, app, loop=app.loop)
    topic = app.topic(stream.topic, value_serializer="raw", value_type=bytes, key_serializer="raw", key_type=bytes)

    async def take(records: StreamT[bytes]) -> None:
        async for events in records.noack_take(BATCH_RECORDS_MAX, within=BATCH_S_MAX):  # type: ignore[attr-defined]  # newer than its stubs
            await stream.handle([_record(event) for event in events])
            for event in events:
                event.ack()

    app.agent(topic, name=f"{stream.group}.take", concurrency=1, supervisor_strategy=CrashingSupervisor)(take)
    app.on_rebalance_complete.connect(_rebuilding(stream), weak=False)
    return app


async def run(stream: Stream) -> None:
    """Runs the stream until cancelled; raises `StreamDied`."""
    async with opened(partial(AIOKafkaConsumer, bootstrap_servers=stream.bootstrap)) as consumer:
        app = app_of(stream)
        app.finalize()
        starting = asyncio.create_task(app.start())  # which ends when the first partitions are rebuilt
        try:
            await _watch(app, starting, stream, consumer)
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await app.stop()


def _rebuilding(stream: Stream) -> Callable[..., Awaitable[None]]:
    """What faust is to do after each rebalance, before it reads. Heartbeats go on meanwhile, so that it may take its time."""

    async def on_rebalanced(app: faust.App, **_: Any) -> None:
        generation = app.consumer_generation_id
        partitions = sorted(TopicPartition(*tp) for tp in app.consumer.assignment())
        if not partitions:
            return
        stream.rebuilding.set()
        try:
            begins = await _rebuilt(stream, partitions)
        except asyncio.CancelledError as error:
            if told_to_end():
                raise
            # faust takes it for the end of its recovery, and would wait for ever.
            raise StreamDied("A rebuild was cancelled, and nobody had asked for it.") from error
        finally:
            stream.rebuilding.clear()
        if app.consumer_generation_id == generation:  # else they may be another's by now, and faust comes again
            app.consumer.guard.assigned({TP(*tp): begin for tp, begin in begins.items()})  # type: ignore[attr-defined]
            stream.ready.set()

    return on_rebalanced


async def _rebuilt(stream: Stream, partitions: Sequence[TopicPartition]) -> Ends:
    """Where reading goes on, once what lies below is rebuilt. While the broker is away it is tried again."""
    while True:
        try:
            begins = await _begins(stream, partitions)
            await stream.rebuild([Assignment(tp.partition, begins[tp]) for tp in partitions])
            return begins
        except KafkaError as error:
            log.warning("the rebuild of %s waits for Kafka: %s", stream.group, type(error).__name__)
        await asyncio.sleep(BROKER_RETRY_S)


async def _begins(stream: Stream, partitions: Sequence[TopicPartition]) -> Ends:
    """Where reading goes on: what the group committed; the log's beginning where it never did, or when the log does not hold that."""
    answer_ms_max = int(ANSWER_S_MAX * 1000)
    make = partial(AIOKafkaConsumer, bootstrap_servers=stream.bootstrap, request_timeout_ms=answer_ms_max)
    async with opened(make) as consumer:
        async with connected(stream.bootstrap, answer_ms_max) as client:
            marks = await committed(client, stream.group, partitions)
        earliest, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {
        tp: mark.offset if mark is not None and earliest[tp] <= mark.offset <= ends[tp] else earliest[tp]
        for tp, mark in marks.items()
    }


async def _watch(app: faust.App, starting: asyncio.Task[None], stream: Stream, consumer: AIOKafkaConsumer) -> None:
    """Returns never; raises when the app crashed or did not start, when its client cannot go on in the group, or when a partition stands
    still although there is something to read."""
    completeness, movement = Completeness(stream.complete), Movement(stream.stall_s_max)
    guarded = cast(GuardedConsumer, app.consumer)
    guard = guarded.guard
    while True:
        await asyncio.sleep(CHECK_S)
        if app.crashed:
            raise StreamDied(f"The stream {stream.group} crashed.") from app.crash_reason
        if starting.done():
            starting.result()
        if (trouble := guarded.trouble()) is not None:
            raise StreamDied(f"The stream {stream.group} cannot take part in its group.") from trouble
        partitions = guarded.given()
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                ends = await consumer.end_offsets(partitions) if partitions else {}
        except (KafkaError, TimeoutError):
            movement = Movement(stream.stall_s_max)  # without a broker nobody can move
            continue
        done = {tp: guard.committable(TP(*tp)) for tp in partitions}
        reached = {tp: offset for tp, offset in done.items() if offset is not None}
        if partitions and reached.keys() == ends.keys():
            completeness.looked(asked_s, ends, reached)
        if stream.rebuilding.is_set():
            movement = Movement(stream.stall_s_max)
        if stalled := movement.looked(ends, reached, time.monotonic()):
            raise StreamDied(
                f"The partitions {stalled} of {stream.topic} did not move for {stream.stall_s_max:.0f} s although their logs went on."
            )


def _record(event: EventT[bytes]) -> Record:
    message = event.message
    headers = dict(message.headers or ())
    return Record(message.partition, message.offset, event.value, list(headers.items()))
