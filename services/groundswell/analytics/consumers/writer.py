"""The writer: frames from the log into the store, exactly once.

For each partition, in order: commit the unchanged offset with the intent `I:a-b`; store the range a to b under its token; commit
b+1. Whoever gets the partition next finds either no intent, and goes on, or one, and stores exactly that range again, of which the
store drops what it has. Where the store is ahead of the offset (a member that was thrown out moved it back), the store is right.

All that takes the log for what it was. Where it is not (`LogLost`), the partition is held, so that nothing of what the log has instead
is taken for stored. Where the settings say so (`refill`) the log is filled up with voids instead, and the frames in front of them that the
store lacks are stored as if they stood in voids: at offsets that nothing else has, before all that comes behind.

What the log's retention removed before it was stored is lost, and no reason to hold anything: it is counted, and said.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from groundswell.analytics.consumers import retention
from groundswell.analytics.consumers.comparing import Comparison, LogReplaced
from groundswell.analytics.consumers.held import Held
from groundswell.analytics.model import intents
from groundswell.analytics.service.storing import LogRecord, Storing
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.kernel import errors, failpoints
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames import voids
from groundswell.kernel.bus.intents import LOST, LogLost, LogTooShort, Mark, Membership
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

GROUP = "analytics.writer"
POLL_S = 0.05
RETRY_S = 0.5
REST = 8.0
"""How long the next rows wait at least, as a multiple of the time that the last ones took: the busier the machine, the bigger the blocks,
and big blocks are what makes the store cheap."""
REST_S_MAX = 1.2
QUIET_S = 0.5
"""They wait no longer when nothing came for so long: nobody would share their block."""

STRANGERS_MAX = 64
"""Frames that a range of strangers holds at most: as many rows as another range."""
REFILLS_MAX = 25
"""Batches of voids that are appended in one turn."""

_ROWS_DIGITS_MAX = len(str(frames.ROWS_MAX))

PASSING = (*LOST, errors.Unavailable, errors.Exhausted, errors.DeadlineExceeded)
"""After these the outcome is unknown: the marks are read again, and an intent is repeated."""

STORED = Counter("groundswell_writer_rows_total", "Rows of events stored.")
SET_ASIDE = Counter("groundswell_writer_frames_set_aside_total", "Corrupt frames sent to the dead letters.")
BEHIND = Gauge(
    "groundswell_writer_oldest_row_seconds", "Time that the oldest row had waited in the log when it was stored."
)

AppendVoids = Callable[[int, int], Awaitable[int]]
"""Appends so many voids to a partition of the log, one behind the other; returns the offset of the first."""
SetAside = Callable[[LogRecord, Exception], Awaitable[None]]
"""Puts a record with the reason where operators find it; returns when it is safe there. A range that is repeated sets it aside again."""


class _Moved(NamedTuple):
    """A record as it would be at another offset."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(slots=True)
class _Pending:
    """Records of one partition that are not stored yet."""

    records: list[LogRecord] = field(default_factory=list)
    rows: int = 0
    since_s: float = 0.0
    newest_s: float = 0.0

    def add(self, records: Sequence[LogRecord]) -> None:
        self.newest_s = time.monotonic()
        if not self.records:
            self.since_s = self.newest_s
        self.records += records
        self.rows += sum(_rows_of(record.headers) for record in records)

    def is_due(self, config: WriterSettings, rest_until_s: float) -> bool:
        """Whether there are enough rows, or they have waited long enough."""
        due_s = max(self.since_s + config.flush_ms / 1000, min(rest_until_s, self.newest_s + QUIET_S))
        return bool(self.records) and (self.rows >= config.flush_rows or time.monotonic() >= due_s)


class Writer:
    """Stores the partitions that the group gives to this process."""

    def __init__(
        self,
        membership: Membership,
        store: RangeStore,
        clock: Clock,
        config: WriterSettings,
        set_aside: SetAside,
        append_voids: AppendVoids,
    ) -> None:
        self._membership, self._store, self._clock = membership, store, clock
        self._config, self._set_aside, self._append_voids = config, set_aside, append_voids
        self._comparison, self._held, self._lost = Comparison(membership, store), Held(), retention.Lost()
        self._repeat = store.write_again if config.count_before_repeat else store.write
        self._pending: dict[int, _Pending] = {}
        self._storing: dict[int, Storing] = {}
        self._next: dict[int, int] = {}
        self._rest_until_s = 0.0
        retention.note_waiting(clock, ())
        self.ready = asyncio.Event()
        """Set once a partition was given and its intent repeated, or it is held: what the process holds beside it goes on."""

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
        if self._membership.given and not self._membership.fresh:  # what of fresh ones waits is not known
            retention.note_waiting(self._clock, (pending.records for pending in self._pending.values()))
        if self._pending:
            failpoints.reach("writer.after_fetch")
        self._held.keep(self._membership.partitions)
        if self._held.due(self._membership.fresh):
            async with self._membership.turn():  # one of its own: a log may be long to look through
                for partition in self._held.due(self._membership.fresh):
                    self._pending.pop(partition, None)
                    await self._look_at(partition)
        if not any(pending.is_due(self._config, self._rest_until_s) for pending in self._pending.values()):
            return
        async with self._membership.turn():
            owned = self._membership.partitions - self._membership.fresh
            pending = {p: self._pending.pop(p).records for p in list(self._pending)}
            began_s = time.monotonic()
            await self._store_all({p: records for p, records in pending.items() if p in owned and records})
            ended_s = time.monotonic()
            self._rest_until_s = ended_s + min(REST * (ended_s - began_s), REST_S_MAX)

    async def _look_at(self, partition: int) -> None:
        """Recovers the partition, or holds it when its log is not what it was, and has it filled up where the settings say so."""
        mark, lost = await self._membership.mark(partition), None
        try:
            await self._recover(partition, mark)
            self._held.release(partition)
        except LogLost as error:
            lost = error
        if lost is not None:
            self._membership.hold(partition)
            self._held.hold(lost, pause=not self._config.refill)
            if self._config.refill:
                await self._refill(lost, mark)
        self.ready.set()

    async def _recover(self, partition: int, mark: Mark | None) -> None:
        """Finds where the partition stands, repeating what a predecessor had begun; raises `LogLost`."""
        known = mark or Mark(0)
        stored_to = (await self._store.newest({partition: known.offset})).get(partition, -1) + 1
        intent = intents.parse(known.note).intent
        begun = Range(partition, *intent) if intent is not None and stored_to <= intent[1] else None
        at = begun.last + 1 if begun else max(known.offset, stored_to)
        if (end := await self._membership.end(partition)) < at:
            raise LogTooShort(partition, end, at)
        beginning = await self._membership.beginning(partition)
        if begun:
            log.info("partition %d: offsets %d to %d are stored again", partition, begun.first, begun.last)
            records = await self._begun(begun)
            await self._begin(partition, begun.first)
            await self._store_range(begun, records, again=True)
        first, at = at, max(at, beginning)
        if not self._config.commit_before_insert:  # what that loses would be found, and the partition held
            await self._comparison.check(partition, at, at)
        if begun or at > first:
            await self._membership.renew(partition, mark)
            if mark or stored_to:  # else nobody ever read it, or that is long forgotten
                self._lost.note(partition, [range(first, at)])
            await self._membership.commit({partition: Mark(at)})
        await self._begin(partition, at)
        self._membership.ready(partition, at)

    async def _begun(self, of: Range) -> Sequence[LogRecord]:
        """The records of a range that somebody had begun: of voids, as many strangers as they were to hold."""
        records = await self._membership.stretch(of.partition, of.first, of.last)
        self._lost.note(of.partition, retention.gone(of.first, records, of.last + 1))
        if all(frames.is_void(record.headers) for record in records):
            async for strangers in self._strangers(of.partition, of.first, len(records)):
                return strangers
        await self._comparison.check(of.partition, of.first, of.last + 1)
        return records

    async def _refill(self, lost: LogLost, mark: Mark | None) -> None:
        """Makes the log as long as it was; then stores what came into it meanwhile. What is left is for the next looks.

        The way here may have been long, so first it is seen whether the partition is still ours, at its `mark`.
        """
        try:
            await self._membership.renew(lost.partition, mark)
            if isinstance(lost, LogReplaced):
                await self._store_strangers(lost.partition, mark)
            else:
                await self._lengthen(lost.partition, lost.reached, mark)
        except LogLost as error:  # it has lost more meanwhile
            self._held.hold(error, pause=True)

    async def _lengthen(self, partition: int, reached: int, mark: Mark | None) -> None:
        """Appends voids until the log ends at `reached`.

        Of a range that was begun, what is left is stored then, and voids stand for the rest. One of which nothing is left is given up
        before its offsets are given to others.
        """
        begun = intents.parse(mark.note).intent if mark else None
        if begun and await self._membership.end(partition) <= begun[0]:
            await self._membership.commit({partition: Mark(begun[1] + 1)})
        for _ in range(REFILLS_MAX):
            if (lacking := reached - await self._membership.end(partition)) <= 0:
                break
            await self._append_voids(partition, min(lacking, voids.TOGETHER_MAX))

    async def _store_strangers(self, partition: int, mark: Mark | None) -> None:
        """Appends voids, and stores in them the frames below them that the store lacks: those that the voids can hold.

        The way to the first of them may be long, so each time it is seen whether the partition is still ours.
        """
        first = await self._append_voids(partition, voids.TOGETHER_MAX)
        await self._begin(partition, first)
        async for strangers in self._strangers(partition, first, STRANGERS_MAX):
            last = strangers[-1].offset
            if last >= first + voids.TOGETHER_MAX:
                break
            await self._membership.renew(partition, mark)
            await self._store_all({partition: strangers})
            mark = Mark(last + 1)

    async def _strangers(self, partition: int, first: int, at_once: int) -> AsyncIterator[list[LogRecord]]:
        """The strangers below the offset `first`, `at_once` at a time, as records of that offset and those behind it."""
        together: list[LogRecord] = []
        async for record in self._comparison.strangers(partition, first):
            together.append(_Moved(first, record.timestamp, record.value, list(record.headers)))
            first += 1
            if len(together) == at_once:
                yield together
                together = []
        if together:
            yield together

    async def _begin(self, partition: int, first: int) -> None:
        self._storing[partition] = Storing(self._store, self._clock, partition)
        await self._storing[partition].begin(first)
        self._next[partition] = first
        self._lost.watch(partition)

    async def _store_all(self, work: Mapping[int, Sequence[LogRecord]]) -> None:
        if not work:
            return
        ranges = {p: Range(p, records[0].offset, records[-1].offset) for p, records in work.items()}
        for p, of in ranges.items():  # a reader that was slower than the retention has gone on behind what is gone
            self._lost.note(p, retention.gone(self._next[p], work[p], of.last + 1))
        ends = {p: Mark(of.last + 1) for p, of in ranges.items()}
        if self._config.commit_before_insert:
            await self._membership.commit(ends)
        else:
            notes = {p: Mark(of.first, str(intents.Note((of.first, of.last)))) for p, of in ranges.items()}
            await self._membership.commit(notes, intent=True)
        failpoints.reach("writer.after_intent")
        await asyncio.gather(*(self._store_range(of, work[p]) for p, of in ranges.items()))
        if not self._config.commit_before_insert:
            await self._membership.commit(ends)
        failpoints.reach("writer.after_commit")

    async def _store_range(self, of: Range, records: Sequence[LogRecord], *, again: bool = False) -> None:
        content, corrupt = await self._storing[of.partition].decide(of, records)
        for each in corrupt:
            await self._set_aside(each.record, each.reason)
            SET_ASIDE.inc()
            failpoints.reach("writer.after_set_aside")
        await (self._repeat if again else self._store.write)(of, content)
        self._next[of.partition] = of.last + 1
        STORED.inc(content.rows.num_rows)
        if content.rows.num_rows:
            BEHIND.set(max(0.0, (self._clock.now_ms() - records[0].timestamp) / 1000))


def _rows_of(headers: Iterable[tuple[str, bytes]]) -> int:
    """How many rows the headers promise; 0 when they cannot be read, or when no frame has as many."""
    for name, value in headers:
        if name == "n" and value is not None and value.isdigit() and len(value) <= _ROWS_DIGITS_MAX:
            return rows if (rows := int(value)) <= frames.ROWS_MAX else 0
    return 0
