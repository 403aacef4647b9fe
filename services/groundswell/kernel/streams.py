"""faust inside our own loop, under rules that keep its known data-loss edges shut.

At least once: batches are taken without acknowledging, their effect happens, then each record is acknowledged. faust may commit
past a record that is not finished (its gap search trusts a committed offset of 0 or None, and takes what it never saw for a
hole), so the guard commits at most the oldest unfinished offset. There are no tables and no windows of faust's: state is the
caller's, and is rebuilt from the log when partitions arrive, before the first record of theirs is read. Liveness is measured: where
a partition's committable offset stands still while its log's end is ahead, or the client cannot go on in its group, the process fails,
and the supervisor starts it again.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT, Message, StreamT
from mode import CrashingSupervisor

from groundswell.kernel.bus.committed import committed, connected
from groundswell.kernel.bus.connecting import BROKER_RETRY_S, cancellation_kept, ended, opened, reached, wary
from groundswell.kernel.bus.consumer import METADATA_MS_MAX

log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 16
BATCH_S_MAX = 0.05
BUFFER_RECORDS_MAX = 64
COMMIT_S = 1.0
CHECK_S = 0.5
STALL_S_MAX = 60.0
"""How long a partition may stand still although its log goes on."""
SESSION_S = 10.0
ANSWER_S_MAX = 5.0
BEGIN_POLL_S = 0.01
END_S_MAX = 10.0
"""How long the client's end may take: what it has not told the broker, the group finds out by itself after a session."""

Ends = Mapping[TopicPartition, int]
"""Offsets by partition."""


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


class OffsetGuard:
    """Which offsets of which partition are unfinished: the highest that may be committed is the oldest of them."""

    def __init__(self) -> None:
        self._open: defaultdict[TP, dict[int, None]] = defaultdict(dict)
        self._next: dict[TP, int] = {}

    def assigned(self, begins: Mapping[TP, int]) -> None:
        """Partitions will be read from these offsets on; all below them is finished."""
        self._next.update(begins)

    def begun(self, partition: TP, offset: int) -> None:
        """A record was handed to the stream; records of a partition begin in order."""
        self._open[partition][offset] = None
        self._next[partition] = offset + 1

    def finished(self, partition: TP, offset: int) -> None:
        """The record's effect has happened."""
        self._open[partition].pop(offset, None)

    def committable(self, partition: TP) -> int | None:
        """The offset up to which everything is finished; None when it is not known yet where reading begins."""
        return next(iter(self._open[partition]), self._next.get(partition))

    def forget(self, partitions: set[TP]) -> None:
        """The partitions went to another process."""
        for partition in partitions:
            self._open.pop(partition, None)
            self._next.pop(partition, None)


class Unacknowledged(WeakSet[Message]):
    """faust's set of messages that are in work: its streams add to it without asking the consumer, so here the guard is told."""

    def __init__(self, guard: OffsetGuard) -> None:
        super().__init__()
        self._guard = guard

    def add(self, item: Message) -> None:
        self._guard.begun(item.tp, item.offset)
        super().add(item)


class EndingThread(driver.AIOKafkaConsumerThread):
    """faust's thread with the client in it, which waits for the broker when it starts, and ends in time. Without a broker the client's end
    raises what would keep this thread and who waits for it, or waits for answers that do not come, also when it is cancelled."""

    async def on_start(self) -> None:
        self._consumer = self._create_consumer(loop=self.thread_loop)
        self.time_started = time.monotonic()
        wary(self._consumer._client)
        # Without topics, which faust subscribes to later, nothing but the bootstrap can fail: the same consumer may start again.
        await self.wait(reached(self._consumer.start))

    async def stop(self) -> None:
        while self._thread is not None and self._thread.is_alive() and not self._started.is_set():
            await asyncio.sleep(BEGIN_POLL_S)  # a thread that has not begun yet would not hear of it
        await super().stop()

    async def on_thread_stop(self) -> None:
        with cancellation_kept():
            await super().on_thread_stop()
        if self._consumer is not None:
            await ended(self._consumer)

    async def _shutdown_thread(self) -> None:
        await _at_most(END_S_MAX, [asyncio.ensure_future(super()._shutdown_thread())])
        self.set_shutdown()

    async def _gather_remaining_tasks(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await _at_most(END_S_MAX, left)


async def _at_most(seconds: float, tasks: Collection[asyncio.Future[None]]) -> None:
    """Waits for tasks whose outcome nobody needs; those that are late are cancelled, and left behind if they do not hear that either."""
    if tasks:
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        for failure in [task.exception() for task in done if not task.cancelled()]:
            if failure is not None:
                log.warning("the stream's client ended with %r", failure)


class GuardedConsumer(driver.Consumer):
    """faust's consumer, which begins where its guard says, and whose commits stop at the oldest unfinished record."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard = OffsetGuard()
        self._unacked_messages = Unacknowledged(self.guard)

    def _new_consumer_thread(self) -> EndingThread:
        return EndingThread(self, loop=self.loop, beacon=self.beacon)

    def given(self) -> list[TopicPartition]:
        """The partitions that the group has given to this process; none before it has reached the broker."""
        return [TopicPartition(*tp) for tp in self.assignment()] if self._thread._consumer is not None else []

    def trouble(self) -> BaseException | None:
        """What has ended the client's part in the group, or what the client waits for faust to ask after, which never does."""
        coordinator = getattr(self._thread._consumer, "_coordinator", None)
        if coordinator is None:
            return None
        task: asyncio.Task[None] = coordinator._coordination_task
        pending: BaseException | None = coordinator._pending_exception
        if task.done():
            return asyncio.CancelledError() if task.cancelled() else task.exception()
        return pending

    def ack(self, message: Message) -> bool:
        finished: bool = super().ack(message)
        self.guard.finished(message.tp, message.offset)
        return finished

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.guard.forget(revoked)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        begins = {partition: self.guard.committable(partition) for partition in self.assignment()}
        known = {partition: begin for partition, begin in begins.items() if begin is not None}
        if len(known) < len(begins):
            raise IllegalStateError("Partitions were assigned meanwhile.")  # faust then begins anew
        await self.seek_wait(known)
        self._committed_offset.update(known)

    async def commit_and_end_transactions(self) -> None:
        """The last commit. A broker that is away is not waited for: what is not committed is read again. It is not for a timeout to end it:
        while an earlier commit waits, faust takes a cancellation for that one's, and begins another."""
        await _at_most(ANSWER_S_MAX, [asyncio.ensure_future(super().commit_and_end_transactions())])

    def _new_offset(self, tp: TP) -> int | None:
        for kept in (self._acked, self._acked_index, self._gap):
            kept.pop(tp, None)  # faust's own books, which nothing else reads
        return self.guard.committable(tp)


class GuardedTransport(driver.Transport):
    """faust's Kafka transport with the guarded consumer."""

    Consumer = GuardedConsumer


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
            if (task := asyncio.current_task()) and task.cancelling():
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
    completeness, movement = _Completeness(stream.complete), _Movement(stream.stall_s_max)
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
            movement = _Movement(stream.stall_s_max)  # without a broker nobody can move
            continue
        done = {tp: guard.committable(TP(*tp)) for tp in partitions}
        reached = {tp: offset for tp, offset in done.items() if offset is not None}
        if partitions and reached.keys() == ends.keys():
            completeness.looked(asked_s, ends, reached)
        if stream.rebuilding.is_set():
            movement = _Movement(stream.stall_s_max)
        if stalled := movement.looked(ends, reached, time.monotonic()):
            raise StreamDied(
                f"The partitions {stalled} of {stream.topic} did not move for {stream.stall_s_max:.0f} s although their logs went on."
            )


class _Movement:
    """When each partition moved last, or had nothing to read."""

    def __init__(self, stall_s_max: float) -> None:
        self._stall_s_max = stall_s_max
        self._moved: dict[TopicPartition, tuple[int, float]] = {}

    def looked(self, ends: Ends, reached: Ends, now_s: float) -> list[int]:
        """The partitions that have stood still for too long; one of which nothing is known counts as such."""
        before, self._moved = self._moved, {}
        for tp, end in ends.items():
            offset = reached.get(tp, -1)
            at, since_s = before.get(tp, (offset, now_s))
            self._moved[tp] = (offset, since_s if offset == at and offset < end else now_s)
        return [tp.partition for tp, (_, since_s) in self._moved.items() if now_s - since_s > self._stall_s_max]


class _Completeness:
    """As of when all of the log is handled. An end that is not reached yet is kept until it is, while newer ones are passed over."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._waiting: tuple[float, Ends] | None = None

    def looked(self, asked_s: float, ends: Ends, reached: Ends) -> None:
        """The log ended at `ends` when it was asked at `asked_s`; all below `reached` is handled now."""
        newest = (asked_s, ends)
        for look in (newest, self._waiting):
            if (
                look is not None
                and look[1].keys() == reached.keys()
                and all(reached[tp] >= look[1][tp] for tp in reached)
            ):
                self._tell(time.monotonic() - look[0])
                self._waiting = None
                break
        if self._waiting is None or self._waiting[1].keys() != ends.keys():
            self._waiting = newest


def _record(event: EventT[bytes]) -> Record:
    message = event.message
    headers = dict(message.headers or ())
    return Record(message.partition, message.offset, event.value, list(headers.items()))
