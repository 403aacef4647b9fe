"""The producer: rows in, frames out, each delivered until the log acknowledges it. Every partition has a lane."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client
import pyarrow as pa
import xxhash

from groundswell.kernel.bus.frames import codec
from groundswell.kernel.bus.frames.journal import LOCK_WAIT_S, Journal, Unjournaled
from groundswell.kernel.bus.frames.lane import Lane, Packed
from groundswell.kernel.bus.frames.records import pack_row
from groundswell.kernel.bus.frames.sender import KafkaSender, Sender
from groundswell.kernel.bus.frames.settings import FrameSettings

CLOSE_S_MAX = 10.0
EXPIRY_TICK_S = 0.025
CHUNK_ROWS_MAX = 4_096
CHUNK_BYTES_MAX = 256 * 1024
"""A client batch is cut at these bounds, always at the same rows, so that the same batch has the same digests again."""

JOURNAL_BYTES = prometheus_client.Gauge("groundswell_frames_journal_bytes", "Bytes in the segments of open journals.")
_OPEN: weakref.WeakSet[Unjournaled] = weakref.WeakSet()
JOURNAL_BYTES.set_function(lambda: float(sum(journal.size_bytes for journal in _OPEN)))


class FrameProducer:
    """Takes rows, batches and columns; delivers frames. For one event loop, not thread-safe."""

    def __init__(self, journal: Unjournaled, sender: Sender, config: FrameSettings) -> None:
        self._journal = journal
        _OPEN.add(journal)
        self._partitions = config.partitions
        reading = asyncio.Lock()
        self._lanes = [Lane(n, place, journal, sender, config, reading) for n, place in enumerate(journal.places)]
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to deliver, first what a predecessor left; `watch` it."""
        self._tasks = [asyncio.create_task(lane.run(), name=f"frames-{lane.partition}") for lane in self._lanes]

    async def watch(self) -> None:
        """Goes on while all partitions deliver, and raises what ended one. Cancelling it leaves them alone."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drained(self) -> None:
        """Returns once nothing waits for the log; raises what ended a partition."""
        drained = asyncio.gather(*(lane.drained() for lane in self._lanes))
        ends: set[asyncio.Future[Any]] = {drained, *self._tasks}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
        for each in done:
            each.result()

    async def close(self, timeout_s: float = CLOSE_S_MAX) -> None:
        """Delivers what is left, for `timeout_s` at most and while no partition has died; what remains stays in the
        journal for a successor."""
        drained = asyncio.gather(*(lane.drained() for lane in self._lanes))
        ends: set[asyncio.Future[Any]] = {drained, *self._tasks}
        await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for each in ends:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        if self._expiry:
            self._expiry.cancel()
        for lane in self._lanes:
            lane.expire(float("inf"))
        _OPEN.discard(self._journal)
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
        return self._lanes[partition].add(row, packed, fixed, text_bytes) * self._partitions + partition

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

        Returns a position for each partition that got rows. When not all could be taken it raises `JournalFull`, or
        `Invalid` for a row that is too big for a frame.
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

    def _packed(self, rows: Sequence[codec.Row]) -> dict[int, list[Packed]]:
        packed: dict[int, list[Packed]] = {}
        for row in rows:
            partition = codec.partition_of(row.tenant, row.user, self._partitions)
            packed.setdefault(partition, []).append((row, *pack_row(partition, row)))
        return packed


def _chunks(rows: list[Packed]) -> Iterator[list[Packed]]:
    """Cuts the rows of one batch at the same places whenever the batch comes."""
    chunk: list[Packed] = []
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


def journal_in(folder: Path, config: FrameSettings, lock_wait_s: float = LOCK_WAIT_S) -> Journal:
    """The journal in a folder; blocks, and raises `JournalBusy`."""
    return Journal(
        folder,
        config.partitions,
        bytes_max=config.journal_bytes_max,
        segment_bytes=config.segment_bytes,
        lock_wait_s=lock_wait_s,
    )


@asynccontextmanager
async def opened(bootstrap: str, folder: Path, config: FrameSettings) -> AsyncIterator[FrameProducer]:
    """The producer of this process, its journal in `folder`; raises `JournalBusy` when another process holds the
    folder."""
    # pyarrow loads its converters at its first array: over a second, which must not fall on somebody's click.
    codec.record_batch([codec.Row(0, "", 0, 0, 0)])
    # In a thread: whatever else the process does, its health included, must not wait for a full journal to be read.
    journal = await asyncio.to_thread(journal_in, folder, config) if config.journal else Unjournaled(config.partitions)
    sender = KafkaSender(bootstrap, config.topic, config.acks)
    producer = FrameProducer(journal, sender, config)
    producer.start()
    try:
        yield producer
    finally:
        await producer.close()
        await sender.close()
