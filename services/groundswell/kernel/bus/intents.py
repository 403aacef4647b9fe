"""Group membership with exact control of offsets: for consumers whose effect is kept in another store than the offset.

An offset is committed with a note. Before an effect, the unchanged offset is committed with the note of what is about to happen
(an intent); after it, the next offset. Whoever gets the partition later reads the note and repeats exactly that, under the same
token, so that the other store drops what it already has.

The fence: work is done inside `turn()`, and a rebalance waits for the turn to end. So all commits of a turn are of one generation
of the group, and those of a member that was thrown out are refused (`Fenced`). A process that slept longer than its session
(SIGSTOP, swap) may wake up as the only member of an empty group, where commits are not refused; hence `turn` also has an age.

A log may lose its end (a power failure, a topic made anew) while the other store keeps what was read from it. `LogLost` says so: new
records then come at offsets that the store takes for its own, so whoever works must stop rather than pass them over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from groundswell.kernel.bus.committed import committed
from groundswell.kernel.bus.connecting import opened, reached, wary
from groundswell.kernel.bus.consumer import METADATA_MS_MAX

log = logging.getLogger(__name__)

SESSION_S = 10.0
ASSIGNED_S_MAX = 3.0
"""Records that do not come within a second are none; who still waits then waits for partitions."""
FETCH_BYTES_MAX = 8 << 20
FETCH_BYTES_MIN, FETCH_WAIT_S = 1 << 20, 0.1
"""Records are fetched many at a time, at the price of a tenth of a second: who works in ranges has time."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A committed offset and its note."""

    offset: int
    note: str = ""


class Fenced(Exception):
    """This member no longer owns what it worked on; it must read its marks again."""


class LogLost(Exception):
    """The log of `partition` no longer holds what was read from it below the offset `reached`."""

    def __init__(self, partition: int, reached: int, found: str) -> None:
        super().__init__(f"The log of partition {partition} was read up to {reached}, but {found}.")
        self.partition, self.reached = partition, reached


class LogTooShort(LogLost):
    """The log ends at `end`: it lost its end, or it has not caught up yet with what it once told."""

    def __init__(self, partition: int, end: int, reached: int) -> None:
        super().__init__(partition, reached, f"ends at {end}")


class MemberDied(Exception):
    """The driver has given up the group for good; the process must be started again."""


LOST = (Fenced, KafkaError)
"""What a turn may end with when the group or the log is away; afterwards nothing is known until the marks are read again."""


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """One member of `group` on one topic. `instance` names it, so that its restart takes its partitions at once."""

    def __init__(self, bootstrap: str, group: str, topic: str, *, instance: str, fetch: bool = True) -> None:
        self._group, self._topic, self._fetch = group, topic, fetch
        self._client = wary(AIOKafkaClient(bootstrap_servers=bootstrap))
        self._make = partial(
            AIOKafkaConsumer,
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=f"{group}.{instance}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(SESSION_S * 1000),
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=600_000,
            metadata_max_age_ms=METADATA_MS_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_bytes=4 * FETCH_BYTES_MAX,
            fetch_min_bytes=FETCH_BYTES_MIN,
            fetch_max_wait_ms=int(FETCH_WAIT_S * 1000),
        )
        self._consumer: AIOKafkaConsumer
        """Only while the member has joined."""
        self._turn = asyncio.Lock()
        self._began_s = 0.0
        self.partitions: frozenset[int] = frozenset()
        self.given = False
        """Whether the group has said which partitions are this member's; they may be none."""
        self.fresh: set[int] = set()
        """Partitions whose marks must be read before they are worked on."""
        self._next: dict[int, int] = {}

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Takes part in the group while the block runs; waits for the broker as long as it takes."""
        try:
            async with opened(self._make) as self._consumer:
                await reached(self._client.bootstrap)
                self._consumer.subscribe([self._topic], listener=self)
                yield
        finally:
            await self._client.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Work whose commits are all of one generation; a rebalance waits for it."""
        async with self._turn:
            self._began_s = time.monotonic()
            yield

    async def renew(self, partition: int, mark: Mark | None) -> None:
        """Lets the turn begin now, since the newest mark of `partition` is still `mark`: nobody else has worked on it. Raises `Fenced`."""
        began_s = time.monotonic()
        if await self.mark(partition) != mark:
            raise Fenced("another member has worked on the partition")
        self._began_s = began_s

    async def commit(self, marks: Mapping[int, Mark], *, intent: bool = False) -> None:
        """Commits inside a turn; raises `Fenced` when the partitions may belong to another member.

        An `intent` is refused when the turn is older than a session: what it was decided on may have been done by another.
        """
        if intent and time.monotonic() - self._began_s > SESSION_S / 2:
            raise Fenced("the turn is older than a session allows")
        offsets = {self._tp(p): OffsetAndMetadata(mark.offset, mark.note) for p, mark in marks.items()}
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            raise Fenced(str(error)) from error

    async def mark(self, partition: int) -> Mark | None:
        """The newest committed mark; None when there was never one. Raises `KafkaError` when that is not known."""
        found = (await committed(self._client, self._group, [self._tp(partition)]))[self._tp(partition)]
        return None if found is None else Mark(found.offset, found.metadata)

    async def beginning(self, partition: int) -> int:
        """The oldest offset that the log still has."""
        return int((await self._consumer.beginning_offsets([self._tp(partition)]))[self._tp(partition)])

    async def end(self, partition: int) -> int:
        """The offset that the next record gets. It may lie below what was read while a new leader of the partition catches up."""
        return int((await self._consumer.end_offsets([self._tp(partition)]))[self._tp(partition)])

    def seek(self, partition: int, offset: int) -> None:
        """Reads on from `offset`."""
        self._next[partition] = offset
        self._consumer.seek(self._tp(partition), offset)

    async def records(self, wait_s: float) -> dict[int, list[ConsumerRecord]]:
        """What has come, by partition, waiting at most `wait_s`; without `fetch` only the group's clock is kept.

        Raises `Fenced` when a log begins anew: where the position lies beyond the end, the driver goes back without a word. Raises
        `MemberDied` where waiting would not help: what the driver did not expect ends its part in the group, and nothing else.
        """
        try:
            found = await self._consumer.getmany(timeout_ms=int(wait_s * 1000))
        except KafkaError as error:
            if self._consumer._coordinator._coordination_task.done():
                raise MemberDied(f"The member of {self._group} has left its group and cannot return.") from error
            raise
        for tp, records in found.items():
            self._went_on(tp.partition, records)
        return {tp.partition: records for tp, records in found.items()}

    async def stretch(self, partition: int, first: int, last: int) -> list[ConsumerRecord]:
        """The records at the offsets `first` to `last`, as `walk` gives them."""
        return [record async for records in self.walk(partition, first, last) for record in records]

    async def walk(self, partition: int, first: int, last: int) -> AsyncIterator[list[ConsumerRecord]]:
        """The records at the offsets `first` to `last`, some at a time; leaves the position behind them.

        Raises `LogTooShort` when the log ends before `last`. What it has removed at its beginning is left out. Raises `Fenced` when the
        group is given out anew: the driver waits for that, and that for the turn in which this is.
        """
        tp = self._tp(partition)
        self.seek(partition, first)
        self._consumer.resume(tp)
        while first <= last:
            if (end := await self.end(partition)) <= last:
                self._consumer.pause(tp)
                raise LogTooShort(partition, end, last + 1)
            try:
                async with asyncio.timeout(ASSIGNED_S_MAX):
                    found = await self._consumer.getmany(tp, timeout_ms=1_000)
            except TimeoutError as error:
                raise Fenced("the partitions are given out anew") from error
            for records in found.values():
                self._went_on(partition, records)
                yield [record for record in records if record.offset <= last]
            first = await self._consumer.position(tp)
        self.seek(partition, last + 1)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Waits for the turn, then gives everything up."""
        async with self._turn:
            self.partitions, self.given = frozenset(), False
            self.fresh.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """All partitions are fresh, also those that stay: another member may have had them in between."""
        self.partitions, self.given = frozenset(tp.partition for tp in assigned), True
        self.fresh = set(self.partitions)
        # Fetching waits until the position is known.
        self._consumer.pause(*assigned)
        log.info("%s has the partitions %s", self._group, sorted(self.partitions))

    def ready(self, partition: int, offset: int) -> None:
        """The partition's marks are read; from now on it gives records from `offset` on."""
        self.fresh.discard(partition)
        if self._fetch:
            self.seek(partition, offset)
            self._consumer.resume(self._tp(partition))

    def hold(self, partition: int) -> None:
        """The partition stays fresh, and gives no records until its marks are read."""
        self.fresh.add(partition)
        self._consumer.pause(self._tp(partition))

    def restart(self) -> None:
        """Something failed with unknown outcome: all marks are to be read again."""
        self.fresh = set(self.partitions)
        if self.partitions:
            self._consumer.pause(*(self._tp(p) for p in self.partitions))

    def _went_on(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Remembers where the partition goes on; raises `Fenced` where these records lie before that."""
        if records and records[0].offset < self._next.get(partition, 0):
            raise Fenced(
                f"the log of partition {partition} goes on at {records[0].offset} instead of {self._next[partition]}"
            )
        if records:
            self._next[partition] = records[-1].offset + 1

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
