"""A lane: the frames of one partition, delivered one after the other.

One frame is in flight. One that cannot be delivered is tried again until it is: going on without it would leave a hole
below the newest number, and readers would take the late frame for one they already hold. While a frame is in flight the
next one fills, so frames grow with the load and with the distance to the broker.
"""

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import prometheus_client
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.errors import KafkaError

from groundswell.kernel import errors
from groundswell.kernel.bus.frames import codec, stored
from groundswell.kernel.bus.frames.journal import JournalFull, Unjournaled
from groundswell.kernel.bus.frames.replay import Announced, Place
from groundswell.kernel.bus.frames.sender import Sender
from groundswell.kernel.bus.frames.settings import FrameSettings

log = logging.getLogger(__name__)

RETRY_S_MAX = 1.0

ROWS_SENT = prometheus_client.Counter("groundswell_frames_rows_sent", "Rows whose frame the log has acknowledged.")
FRAMES_SENT = prometheus_client.Counter("groundswell_frames_sent", "Frames that the log has acknowledged.")
SEND_FAILURES = prometheus_client.Counter("groundswell_frames_send_failures", "Tries to deliver a frame that failed.")


Packed = tuple[codec.Row, bytes, bytes, int]


class Lane:
    """One partition: an open frame that fills, frames that wait, one in flight."""

    def __init__(
        self,
        partition: int,
        place: Place,
        journal: Unjournaled,
        sender: Sender,
        config: FrameSettings,
        reading: asyncio.Lock,
    ) -> None:
        """`reading` is held while a frame is read out of the journal, so that the rows of one are in memory at a time."""
        self.partition, self.place = partition, place
        self._journal, self._sender, self._reading = journal, sender, reading
        self._flush_s = config.flush_ms / 1000
        self._rows_max = min(config.frame_rows_max, codec.ROWS_MAX)
        self._bytes_max = min(config.frame_bytes_max, codec.COLUMNS_BYTES_MAX)
        self.acknowledged_rows = place.waits_from
        self._waiters: list[tuple[int, int, float, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._leaves_s = 0.0
        if place.announced or len(place.open):
            self._filled.set()

    def add(self, row: codec.Row, packed: bytes, fixed: bytes, text_bytes: int) -> int:
        """Puts a row into the journal and the open frame; returns its number. Raises `JournalFull`: it is in neither.

        What may fail comes first, so that both number their rows alike: a full frame is cut before the next row, not
        after its last.
        """
        place = self.place
        columns = place.open
        count = len(columns.kinds)
        if count >= self._rows_max or (count and columns.size_bytes + text_bytes > self._bytes_max):
            self.cut()
            columns, count = place.open, 0
        self._journal.row(packed)
        columns.add(fixed, row[1], row[10], row[11], text_bytes)
        number = place.next_row
        place.next_row = number + 1
        if not count or count + 1 >= self._rows_max:
            self._filling(count, count + 1)
        return number

    def add_group(self, digest: bytes, rows: Sequence[Packed]) -> int:
        """Puts the rows of one batch into one frame; returns the number of the last."""
        columns = self.place.open
        size = sum(codec.FIXED.size + text_bytes for *_, text_bytes in rows)
        if len(columns) and (len(columns) + len(rows) > self._rows_max or columns.size_bytes + size > self._bytes_max):
            self.cut()
            columns = self.place.open
        count = len(columns)
        self._journal.group(digest, [packed for _, packed, _, _ in rows])
        columns.groups.append(codec.Group(digest, count, len(rows)))
        for row, _, fixed, text_bytes in rows:
            columns.add(fixed, row.kind, row.props, row.name, text_bytes)
        self.place.next_row += len(rows)
        self._filling(count, len(columns))
        return self.place.next_row - 1

    def add_columns(self, columns: pa.RecordBatch) -> int:
        """Makes frames of columns; returns the number of the last row."""
        self.cut()
        place = self.place
        for part, body in _frames_of(columns, self._rows_max, self._bytes_max):
            bounds = pc.min_max(part.column("ts")).as_py()
            first, end = place.next_row, place.next_row + part.num_rows
            frame = Announced(place.next_seq, first, end, part.num_rows, None, body, bounds["min"], bounds["max"])
            self._journal.columns(self.partition, frame)
            place.next_seq, place.next_row = frame.seq + 1, end
            place.announced.append(frame)
            self._filled.set()
        return place.next_row - 1

    def cut(self) -> None:
        """Announces the open frame and begins a new one; raises `JournalFull`: the frame stays open."""
        place = self.place
        columns = place.open
        if not len(columns):
            return
        first = place.next_row - len(columns)
        # The border is written before anything is sent: a successor must cut the same frame.
        self._journal.border(self.partition, place.next_seq, first, len(columns))
        frame = Announced(place.next_seq, first, place.next_row, len(columns), columns)
        place.announced.append(frame)
        place.next_seq += 1
        place.open = codec.Columns()
        self._filled.set()
        _encoded(frame)

    def wait(self, row: int, deadline_s: float, known: asyncio.Future[bool]) -> None:
        """Tells `known` True when the log has the row."""
        heapq.heappush(self._waiters, (row, next(self._order), deadline_s, known))

    def expire(self, now_s: float) -> int:
        """Tells False to all whose deadline passed; returns how many still wait."""
        late = [waiter for waiter in self._waiters if waiter[2] <= now_s or waiter[3].done()]
        if late:
            self._waiters = [waiter for waiter in self._waiters if waiter[2] > now_s and not waiter[3].done()]
            heapq.heapify(self._waiters)
        for *_, known in late:
            if not known.done():
                known.set_result(False)
        return len(self._waiters)

    async def drained(self) -> None:
        """Returns when nothing is left to deliver."""
        while self.place.announced or len(self.place.open):
            self._flush()
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Delivers until cancelled."""
        while True:
            await self._filled.wait()
            if not self.place.announced:
                await self._until_flush()
                await self._until_announced()
            frame = self.place.announced[0]
            await self._deliver(await self._read(frame))
            self.place.announced.popleft()
            self._acknowledge(frame)
            if not self.place.announced and not len(self.place.open):
                self._filled.clear()
                self._idle.set()

    async def _until_announced(self) -> None:
        """Cuts the open frame, as often as it takes: while the disk is full its border cannot be written."""
        for attempt in itertools.count():
            try:
                if not self.place.announced:
                    self.cut()
                return
            except JournalFull as error:
                if attempt == 0:
                    log.warning("a frame of partition %d cannot be announced yet: %s", self.partition, error)
                await _pause(attempt)

    async def _until_flush(self) -> None:
        """Waits until the open frame has had its time, or is full."""
        remaining = self._leaves_s - asyncio.get_running_loop().time()
        if remaining > 0:
            self._filled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._filled.wait()

    async def _read(self, frame: Announced) -> Announced:
        """The frame with its body, out of the journal if it still lies there: as often as it takes, descriptors may be short.

        The one that waits in line stays as small as it is.
        """
        if not frame.pieces:
            return _encoded(frame)
        for attempt in itertools.count():
            try:
                async with self._reading:
                    return await asyncio.to_thread(_loaded, frame)
            except FileNotFoundError:  # it will not come back, and a successor reads what is there
                raise
            except OSError as error:
                if attempt == 0:
                    log.warning("frame %d of partition %d cannot be read yet: %s", frame.seq, self.partition, error)
            await _pause(attempt)
        raise AssertionError("it goes on until the frame is read")

    async def _deliver(self, frame: Announced) -> None:
        header = codec.Header(
            self._journal.producer_id,
            frame.seq,
            frame.rows,
            frame.min_ts_ms,
            frame.max_ts_ms,
            tuple(frame.columns.groups) if frame.columns is not None else (),
        )
        for attempt in itertools.count():
            try:
                await self._sender.send(self.partition, frame.body, header.to_record())
                return
            except (KafkaError, OSError, TimeoutError) as error:
                SEND_FAILURES.inc()
                if attempt == 0:
                    log.warning("frame %d of partition %d is not delivered yet: %r", frame.seq, self.partition, error)
                await _pause(attempt)

    def _acknowledge(self, frame: Announced) -> None:
        self.acknowledged_rows = frame.end
        self._journal.acknowledge(self.partition, frame.seq, self.acknowledged_rows)
        ROWS_SENT.inc(frame.rows)
        FRAMES_SENT.inc()
        waiters = self._waiters
        while waiters and waiters[0][0] < self.acknowledged_rows:
            known = heapq.heappop(waiters)[3]
            if not known.done():
                known.set_result(True)

    def _filling(self, before: int, after: int) -> None:
        """The open frame had `before` rows and has `after`: with its first it is settled when it leaves, and when it is full it leaves."""
        if not before:
            self._leaves_s = departure(asyncio.get_running_loop().time(), self._flush_s)
            if not self.place.announced:
                self._filled.set()
        if after >= self._rows_max:
            self._flush()

    def _flush(self) -> None:
        """The open frame waits for no more rows."""
        self._leaves_s = float("-inf")
        self._filled.set()


def departure(now_s: float, flush_s: float) -> float:
    """When a frame leaves that gets its first row now, `flush_s` later at most.

    Frames of all partitions leave at the same moments: they share a request to the broker then, and its readers share their fetches.
    """
    return (now_s // flush_s + 1) * flush_s if flush_s else now_s


async def _pause(attempt: int) -> None:
    """Waits before the next try, longer each time."""
    await asyncio.sleep(min(RETRY_S_MAX, 0.05 * 2 ** min(attempt, 5)))


def _encoded(frame: Announced) -> Announced:
    """The frame with its body; the same rows give the same body in a successor."""
    if not frame.body and frame.columns is not None:
        batch = frame.columns.to_batch()
        bounds = pc.min_max(batch.column("ts")).as_py()
        frame.min_ts_ms, frame.max_ts_ms = bounds["min"], bounds["max"]
        frame.body = codec.encode(batch)
        # Only the groups are needed from here on; the rows are in the body.
        frame.columns = codec.Columns(groups=frame.columns.groups)
    return frame


def _loaded(frame: Announced) -> Announced:
    """A copy of a frame in the journal, with its body; raises `OSError`."""
    body = stored.body_of(frame.pieces)
    return _encoded(replace(frame, pieces=(), body=body, columns=None if body else stored.columns(frame.pieces)))


def _frames_of(columns: pa.RecordBatch, rows_max: int, bytes_max: int) -> Iterator[tuple[pa.RecordBatch, bytes]]:
    """Slices that are small enough for a frame each, with their bodies; raises `Invalid` at a row that is too big."""
    waiting = deque([columns.slice(at, rows_max) for at in range(0, columns.num_rows, rows_max)])
    while waiting:
        part = waiting.popleft()
        big = part.get_total_buffer_size() > 2 * bytes_max and part.nbytes > bytes_max
        body = b"" if big and part.num_rows > 1 else codec.encode(part)
        if 0 < len(body) <= codec.FRAME_BYTES_MAX:
            yield part, body
        elif part.num_rows > 1:
            half = part.num_rows // 2
            waiting.extendleft([part.slice(half), part.slice(0, half)])
        else:
            raise errors.Invalid(f"A row of telemetry takes more than the {codec.FRAME_BYTES_MAX} bytes of a frame.")
