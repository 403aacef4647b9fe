"""The producer: rows in, frames out, each delivered until the log acknowledges it.

Every partition has a lane with one frame in flight. A frame that cannot be delivered is tried again until it is: going
on without it would leave a hole below the newest number, and readers would take the late frame for one they already
hold. While a frame is in flight the next one fills, so frames grow with the load and with the distance to the broker.
"""

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import prometheus_client
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from aiokafka.errors import KafkaError

from groundswell.kernel import settings
from groundswell.kernel.bus.frames import codec
from groundswell.kernel.bus.frames.journal import Announced, Journal, Place, Unjournaled, pack_row
from groundswell.kernel.bus.frames.sender import KafkaSender, Sender

log = logging.getLogger(__name__)

RETRY_S_MAX = 1.0
CLOSE_S_MAX = 10.0
EXPIRY_TICK_S = 0.025
CHUNK_ROWS_MAX = 4_096
CHUNK_BYTES_MAX = 256 * 1024
"""A client batch is cut at these bounds, always at the same rows, so that the same batch has the same digests again."""

ROWS_SENT = prometheus_client.Counter("groundswell_frames_rows_sent", "Rows whose frame the log has acknowledged.")
FRAMES_SENT = prometheus_client.Counter("groundswell_frames_sent", "Frames that the log has acknowledged.")
SEND_FAILURES = prometheus_client.Counter("groundswell_frames_send_failures", "Tries to deliver a frame that failed.")
JOURNAL_BYTES = prometheus_client.Gauge("groundswell_frames_journal_bytes", "Bytes in the journal's segments.")


@settings.section("FRAMES")
class FrameSettings:
    """How this process writes frames."""

    topic: str = "analytics.frames.v1"
    """Where frames go."""
    partitions: int = 4
    """Partitions of the topic. A change moves users to other partitions; do it while no frames are written."""
    journal: bool = True
    """Whether rows are kept on disk until they are acknowledged. Off, a crash loses them: only for tests of the
    protection."""
    acks: str = "all"
    """`all`: a frame counts as delivered when every in-sync replica has it. `0` and `1` lose frames: only for tests."""
    flush_ms: int = 50
    """How long a row waits at most for others to share its frame. Each frame costs its producer, the broker and every reader about a
    millisecond of CPU, however few its rows are."""
    frame_rows_max: int = codec.ROWS_MAX
    """Rows in a frame, at most 8,192."""
    frame_bytes_max: int = 512 * 1024
    """Bytes of columns, before compression, at which a frame is cut."""
    journal_bytes_max: int = 256 << 20
    """Bytes on disk at which rows are refused."""
    segment_bytes: int = 16 << 20
    """Bytes at which a new segment of the journal begins; segments are what is deleted."""


class FrameProducer:
    """Takes rows, batches and columns; delivers frames. For one event loop, not thread-safe."""

    def __init__(self, journal: Unjournaled, sender: Sender, config: FrameSettings) -> None:
        self._journal = journal
        self._partitions = config.partitions
        self._lanes = [_Lane(n, place, journal, sender, config) for n, place in enumerate(journal.places)]
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to deliver, first what a predecessor left."""
        self._tasks = [asyncio.create_task(lane.run(), name=f"frames-{lane.partition}") for lane in self._lanes]

    async def close(self, timeout_s: float = CLOSE_S_MAX) -> None:
        """Delivers what is left, for `timeout_s` at most; what remains stays in the journal for a successor."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(lane.drained() for lane in self._lanes))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._expiry:
            self._expiry.cancel()
        for lane in self._lanes:
            lane.expire(float("inf"))
        self._journal.close()

    @property
    def waiting_rows(self) -> int:
        """Rows that the log has not acknowledged."""
        return sum(lane.place.next_row - lane.acknowledged_rows for lane in self._lanes)

    def append(self, row: codec.Row) -> int:
        """Takes a row; it is in the journal when this returns. Returns its position for `acknowledged`.

        Raises `JournalFull`, and `Invalid` when a field is out of its bounds.
        """
        partition = codec.partition_of(row[2], row[4], self._partitions)
        packed, fixed, text_bytes = pack_row(partition, row)
        lane = self._lanes[partition]
        self._journal.row(packed)
        return lane.add(row, fixed, text_bytes) * self._partitions + partition

    def append_batch(self, rows: Sequence[codec.Row], digest: bytes) -> list[int]:
        """Takes the rows of one client batch; the same batch again (same 16-byte digest, same rows) adds nothing.

        Returns a position for each partition that got rows; the batch is acknowledged when all of them are. Raises
        `JournalFull` when not all could be taken: send the batch again under the same digest.
        """
        positions = []
        for partition, packed_rows in self._packed(rows).items():
            for number, chunk in enumerate(_chunks(packed_rows)):
                named = digest if number == 0 else xxhash.xxh3_128_digest(digest + number.to_bytes(4, "little"))
                last = self._lanes[partition].add_group(named, chunk)
            positions.append(last * self._partitions + partition)
        return positions

    def append_columns(self, columns: pa.RecordBatch) -> list[int]:
        """Takes rows that are columns already (`codec.SCHEMA`); each frame of theirs is one record of the journal.

        Returns a position for each partition that got rows. Raises `JournalFull` when not all could be taken.
        """
        tenants, users = (columns.column(name).to_numpy() for name in ("tenant", "user"))
        partitions = codec.partitions_of(tenants, users, self._partitions)
        positions = []
        for partition, lane in enumerate(self._lanes):
            chosen = np.flatnonzero(partitions == partition)
            if len(chosen):
                positions.append(lane.add_columns(columns.take(pa.array(chosen))) * self._partitions + partition)
        return positions

    async def acknowledged(self, position: int, timeout_s: float) -> bool:
        """True once the log has the row at `position`; False when `timeout_s` passed first (the row is still on its
        way)."""
        row, partition = divmod(position, self._partitions)
        lane = self._lanes[partition]
        if row < lane.acknowledged_rows:
            return True
        loop = asyncio.get_running_loop()
        known: asyncio.Future[bool] = loop.create_future()
        lane.wait(row, loop.time() + timeout_s, known)
        if self._expiry is None:
            self._expiry = loop.call_later(EXPIRY_TICK_S, self._expire)
        return await known

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [lane.expire(now) for lane in self._lanes]
        self._expiry = loop.call_later(EXPIRY_TICK_S, self._expire) if any(waiting) else None

    def _packed(self, rows: Sequence[codec.Row]) -> dict[int, list["_Packed"]]:
        packed: dict[int, list[_Packed]] = {}
        for row in rows:
            partition = codec.partition_of(row.tenant, row.user, self._partitions)
            packed.setdefault(partition, []).append((row, *pack_row(partition, row)))
        return packed


_Packed = tuple[codec.Row, bytes, bytes, int]


class _Lane:
    """One partition: an open frame that fills, frames that wait, one in flight."""

    def __init__(
        self, partition: int, place: Place, journal: Unjournaled, sender: Sender, config: FrameSettings
    ) -> None:
        self.partition, self.place = partition, place
        self._journal, self._sender = journal, sender
        self._flush_s = config.flush_ms / 1000
        self._rows_max, self._bytes_max = min(config.frame_rows_max, codec.ROWS_MAX), config.frame_bytes_max
        self.acknowledged_rows = place.next_row - len(place.open) - sum(frame.rows for frame in place.announced)
        self._waiters: list[tuple[int, int, float, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._opened_s = 0.0
        if place.announced or len(place.open):
            self._filled.set()

    def add(self, row: codec.Row, fixed: bytes, text_bytes: int) -> int:
        """Puts a row that the journal has into the open frame; returns its number."""
        place = self.place
        columns = place.open
        if columns.size_bytes + text_bytes > self._bytes_max and len(columns):
            self.cut()
            columns = place.open
        columns.add(fixed, row[1], row[10], row[11], text_bytes)
        number = place.next_row
        place.next_row = number + 1
        count = len(columns.kinds)
        if count == 1:
            self._opened()
        if count >= self._rows_max:
            self.cut()
        return number

    def add_group(self, digest: bytes, rows: Sequence[_Packed]) -> int:
        """Puts the rows of one batch into one frame; returns the number of the last."""
        columns = self.place.open
        size = sum(codec.FIXED.size + text_bytes for *_, text_bytes in rows)
        if len(columns) and (len(columns) + len(rows) > self._rows_max or columns.size_bytes + size > self._bytes_max):
            self.cut()
            columns = self.place.open
        self._journal.group(digest, [packed for _, packed, _, _ in rows])
        if not len(columns):
            self._opened()
        columns.groups.append(codec.Group(digest, len(columns), len(rows)))
        for row, _, fixed, text_bytes in rows:
            columns.add(fixed, row.kind, row.props, row.name, text_bytes)
        self.place.next_row += len(rows)
        if len(columns) >= self._rows_max:
            self.cut()
        return self.place.next_row - 1

    def add_columns(self, columns: pa.RecordBatch) -> int:
        """Makes frames of columns; returns the number of the last row."""
        self.cut()
        place = self.place
        for part in _frames_of(columns, self._rows_max, self._bytes_max):
            bounds = pc.min_max(part.column("ts")).as_py()
            frame = Announced(
                place.next_seq, place.next_row, part.num_rows, None, codec.encode(part), bounds["min"], bounds["max"]
            )
            self._journal.columns(self.partition, frame)
            place.next_seq, place.next_row = frame.seq + 1, frame.first + frame.rows
            place.announced.append(frame)
        self._filled.set()
        return place.next_row - 1

    def cut(self) -> None:
        """Announces the open frame and begins a new one."""
        place = self.place
        if not len(place.open):
            return
        first = place.next_row - len(place.open)
        # The border is written before anything is sent: a successor must cut the same frame.
        self._journal.border(self.partition, place.next_seq, first, len(place.open))
        place.announced.append(_encoded(Announced(place.next_seq, first, len(place.open), place.open)))
        place.next_seq += 1
        place.open = codec.Columns()
        self._filled.set()

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
            self.cut()
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Delivers until cancelled."""
        while True:
            await self._filled.wait()
            if not self.place.announced:
                await self._until_flush()
                self.cut()
            frame = self.place.announced[0]
            await self._deliver(_encoded(frame))
            self.place.announced.popleft()
            self._acknowledge(frame)
            if not self.place.announced and not len(self.place.open):
                self._filled.clear()
                self._idle.set()

    async def _until_flush(self) -> None:
        """Waits until the open frame has had its time, or is full."""
        remaining = self._opened_s + self._flush_s - asyncio.get_running_loop().time()
        if remaining > 0:
            self._filled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._filled.wait()

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
                await asyncio.sleep(min(RETRY_S_MAX, 0.05 * 2 ** min(attempt, 5)))

    def _acknowledge(self, frame: Announced) -> None:
        self.acknowledged_rows = frame.first + frame.rows
        self._journal.acknowledge(self.partition, frame.seq, self.acknowledged_rows)
        ROWS_SENT.inc(frame.rows)
        FRAMES_SENT.inc()
        JOURNAL_BYTES.set(self._journal.size_bytes)
        waiters = self._waiters
        while waiters and waiters[0][0] < self.acknowledged_rows:
            known = heapq.heappop(waiters)[3]
            if not known.done():
                known.set_result(True)

    def _opened(self) -> None:
        """The open frame got its first row: its time runs."""
        self._opened_s = asyncio.get_running_loop().time()
        if not self.place.announced:
            self._filled.set()


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


def _chunks(rows: list[_Packed]) -> Iterator[list[_Packed]]:
    """Cuts the rows of one batch at the same places whenever the batch comes."""
    chunk: list[_Packed] = []
    size = 0
    for packed in rows:
        row_bytes = codec.FIXED.size + packed[3]
        if chunk and (len(chunk) == CHUNK_ROWS_MAX or size + row_bytes > CHUNK_BYTES_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(packed)
        size += row_bytes
    if chunk:
        yield chunk


def _frames_of(columns: pa.RecordBatch, rows_max: int, bytes_max: int) -> Iterator[pa.RecordBatch]:
    """Slices that are small enough for a frame each."""
    waiting = deque([columns.slice(at, rows_max) for at in range(0, columns.num_rows, rows_max)])
    while waiting:
        part = waiting.popleft()
        if part.num_rows > 1 and part.get_total_buffer_size() > 2 * bytes_max and part.nbytes > bytes_max:
            half = part.num_rows // 2
            waiting.extendleft([part.slice(half), part.slice(0, half)])
        else:
            yield part


@asynccontextmanager
async def opened(bootstrap: str, folder: Path, config: FrameSettings) -> AsyncIterator[FrameProducer]:
    """The producer of this process, its journal in `folder`; raises `JournalBusy` when another process holds the
    folder."""
    # pyarrow loads its converters at its first array: over a second, which must not fall on somebody's click.
    codec.record_batch([codec.Row(0, "", 0, 0, 0)])
    journal = (
        Journal(folder, config.partitions, bytes_max=config.journal_bytes_max, segment_bytes=config.segment_bytes)
        if config.journal
        else Unjournaled(config.partitions)
    )
    sender = KafkaSender(bootstrap, config.topic, config.acks)
    producer = FrameProducer(journal, sender, config)
    producer.start()
    try:
        yield producer
    finally:
        await producer.close()
        await sender.close()
