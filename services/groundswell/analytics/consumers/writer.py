"""The writer: frames from the log into the store, exactly once.

For each partition, in order: commit the unchanged offset with the intent `I:a-b`; store the range a to b under its token; commit
b+1. Whoever gets the partition next finds either no intent, and goes on, or one, and stores exactly that range again, of which the
store drops what it has. Where the store is ahead of the offset (a member that was thrown out moved it back), the store is right.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from groundswell.analytics.model import intents
from groundswell.analytics.service.storing import LogRecord, Storing
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.kernel import errors, failpoints
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import LOST, Mark, Membership
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

GROUP = "analytics.writer"
POLL_S = 0.05
RETRY_S = 0.5
REST = 8.0
"""How long the next rows wait at least, as a multiple of the time that the last ones took: the busier the machine, the bigger the blocks,
and big blocks are what makes the store cheap."""
REST_S_MAX = 3.0

_ROWS_DIGITS_MAX = len(str(frames.ROWS_MAX))

PASSING = (*LOST, errors.Unavailable, errors.Exhausted, errors.DeadlineExceeded)
"""After these the outcome is unknown: the marks are read again, and an intent is repeated."""

STORED = Counter("groundswell_writer_rows_total", "Rows of events stored.")
SET_ASIDE = Counter("groundswell_writer_frames_set_aside_total", "Corrupt frames sent to the dead letters.")
BEHIND = Gauge(
    "groundswell_writer_oldest_row_seconds", "Time that the oldest row had waited in the log when it was stored."
)

Write = Callable[[Range, Content], Awaitable[None]]
"""Puts a range into the store."""
SetAside = Callable[[LogRecord, Exception], Awaitable[None]]
"""Puts a record with the reason where operators find it; returns when it is safe there. A range that is repeated sets it aside again."""


@dataclass(slots=True)
class _Pending:
    """Records of one partition that are not stored yet."""

    records: list[LogRecord] = field(default_factory=list)
    rows: int = 0
    since_s: float = 0.0

    def add(self, records: Sequence[LogRecord]) -> None:
        if not self.records:
            self.since_s = time.monotonic()
        self.records += records
        self.rows += sum(_rows_of(record.headers) for record in records)

    def is_due(self, config: WriterSettings, rest_until_s: float) -> bool:
        """Whether there are enough rows, or they have waited long enough."""
        due_s = max(self.since_s + config.flush_ms / 1000, rest_until_s)
        return bool(self.records) and (self.rows >= config.flush_rows or time.monotonic() >= due_s)


class Writer:
    """Stores the partitions that the group gives to this process."""

    def __init__(
        self, membership: Membership, store: RangeStore, clock: Clock, config: WriterSettings, set_aside: SetAside
    ) -> None:
        self._membership, self._store, self._clock = membership, store, clock
        self._config, self._set_aside = config, set_aside
        self._repeat = store.write_again if config.count_before_repeat else store.write
        self._pending: dict[int, _Pending] = {}
        self._storing: dict[int, Storing] = {}
        self._rest_until_s = 0.0
        self.ready = asyncio.Event()
        """Set once partitions were given and their intents repeated."""

    async def run(self) -> None:
        """Stores until cancelled."""
        async with self._membership.joined():
            while True:
                try:
                    await self._cycle()
                except PASSING as error:
                    log.warning("the writer reads its marks again: %r", error)
                    self._membership.restart()
                    await asyncio.sleep(RETRY_S)

    async def _cycle(self) -> None:
        for partition, records in (await self._membership.records(POLL_S)).items():
            self._pending.setdefault(partition, _Pending()).add(records)
        failpoints.reach("writer.after_fetch")
        due = any(pending.is_due(self._config, self._rest_until_s) for pending in self._pending.values())
        if not due and not self._membership.fresh:
            return
        async with self._membership.turn():
            for partition in sorted(self._membership.fresh):
                self._pending.pop(partition, None)
                await self._recover(partition)
                self.ready.set()
            owned = self._membership.partitions
            pending = {p: self._pending.pop(p).records for p in list(self._pending)}
            began_s = time.monotonic()
            await self._store_all({p: records for p, records in pending.items() if p in owned and records})
            ended_s = time.monotonic()
            self._rest_until_s = ended_s + min(REST * (ended_s - began_s), REST_S_MAX)

    async def _recover(self, partition: int) -> None:
        """Finds where the partition stands, repeating what a predecessor had begun."""
        mark = await self._membership.mark(partition) or Mark(await self._membership.beginning(partition))
        stored_to = await self._store.newest(partition, mark.offset) + 1
        intent = intents.parse(mark.note).intent
        if intent is not None and stored_to <= intent[1]:
            again = Range(partition, *intent)
            log.info("partition %d: offsets %d to %d are stored again", partition, *intent)
            records = await self._membership.stretch(partition, again.first, again.last)
            await self._begin(partition, again.first)
            await self._store_range(again, records, self._repeat)
            await self._membership.commit({partition: Mark(again.last + 1)})
            stored_to = again.last + 1
        at = max(mark.offset, stored_to)
        await self._begin(partition, at)
        self._membership.ready(partition, at)

    async def _begin(self, partition: int, first: int) -> None:
        self._storing[partition] = Storing(self._store, self._clock, partition)
        await self._storing[partition].begin(first)

    async def _store_all(self, work: dict[int, list[LogRecord]]) -> None:
        if not work:
            return
        ranges = {p: Range(p, records[0].offset, records[-1].offset) for p, records in work.items()}
        ends = {p: Mark(of.last + 1) for p, of in ranges.items()}
        if self._config.commit_before_insert:
            await self._membership.commit(ends)
        else:
            notes = {p: Mark(of.first, str(intents.Note((of.first, of.last)))) for p, of in ranges.items()}
            await self._membership.commit(notes, intent=True)
        failpoints.reach("writer.after_intent")
        await asyncio.gather(*(self._store_range(of, work[p], self._store.write) for p, of in ranges.items()))
        if not self._config.commit_before_insert:
            await self._membership.commit(ends)
        failpoints.reach("writer.after_commit")

    async def _store_range(self, of: Range, records: Sequence[LogRecord], write: Write) -> None:
        content, corrupt = await self._storing[of.partition].decide(of, records)
        for each in corrupt:
            await self._set_aside(each.record, each.reason)
            SET_ASIDE.inc()
            failpoints.reach("writer.after_set_aside")
        await write(of, content)
        STORED.inc(content.rows.num_rows)
        if content.rows.num_rows:
            BEHIND.set(max(0.0, (self._clock.now_ms() - records[0].timestamp) / 1000))


def _rows_of(headers: Iterable[tuple[str, bytes]]) -> int:
    """How many rows the headers promise; 0 when they cannot be read, or when no frame has as many."""
    for name, value in headers:
        if name == "n" and value is not None and value.isdigit() and len(value) <= _ROWS_DIGITS_MAX:
            return rows if (rows := int(value)) <= frames.ROWS_MAX else 0
    return 0
