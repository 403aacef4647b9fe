"""faust's client under the rules of this package: it waits for its broker, begins where it is told, and commits nothing unfinished."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakSet

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

from groundswell.kernel.bus.connecting import cancellation_kept, ended, reached, wary

log = logging.getLogger(__name__)

ANSWER_S_MAX = 5.0
BEGIN_POLL_S = 0.01
END_S_MAX = 10.0
"""How long the client's end may take: what it has not told the broker, the group finds out by itself after a session."""


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


async def _at_most(seconds: float, tasks: Collection[asyncio.Future[None]]) -> None:
    """Waits for tasks whose outcome nobody needs; those that are late are cancelled, and left behind if they do not hear that either."""
    if tasks:
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        for failure in [task.exception() for task in done if not task.cancelled()]:
            if failure is not None:
                log.warning("the stream's client ended with %r", failure)
