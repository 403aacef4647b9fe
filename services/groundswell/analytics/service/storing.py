"""What of a range of the log is stored: each frame once, each client batch once, corrupt frames set aside.

The decision depends only on the range's records and on what was stored from below its first offset, so a replay of the same range
decides the same. What the range itself has already put into the store is not looked at.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import Clock

_ROW_COLUMNS = [name for name in frames.SCHEMA.names if name != "ts"]
_SECONDS = pa.timestamp("s", "UTC")


class LogRecord(Protocol):
    """A record of the log, as any reader has it."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...  # when it was sent to the log, in milliseconds
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes]]: ...


class Corrupt(NamedTuple):
    """A record that is no sound frame, to be set aside with the reason."""

    record: LogRecord
    reason: frames.CorruptFrame


class _Book(NamedTuple):
    """One line of the books: a frame's rows of one tenant."""

    tenant: int
    offset: int
    producer: int = 0
    seq: int = 0
    accepted: int = 0
    parked: int = 0
    duplicate: int = 0


@dataclass(slots=True)
class _Kept:
    """What a range keeps, as it is gathered frame by frame."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    parked: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    digests: list[tuple[bytes, int]] = field(default_factory=list)
    books: list[_Book] = field(default_factory=list)
    corrupt: list[Corrupt] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)


class Storing:
    """Decides and stores the ranges of one partition, in order."""

    def __init__(self, store: RangeStore, clock: Clock, partition: int) -> None:
        self._store, self._clock, self._partition = store, clock, partition
        self._marks: dict[int, int] = {}

    async def begin(self, first: int) -> None:
        """The next range begins at the offset `first`: what counts is what was stored from below it."""
        self._marks = await self._store.marks(self._partition, first)

    async def decide(self, of: Range, records: Sequence[LogRecord]) -> tuple[Content, list[Corrupt]]:
        """What the records of the range put into the store, and which of them are to be set aside."""
        kept = _Kept(marks=dict(self._marks))
        sound = await asyncio.to_thread(_decoded, kept, records)
        known = await self._known(of, sound)

        def gather() -> Content:
            for offset, frame in sound:
                _take(kept, offset, frame, known)
            kept.books.append(_Book(0, of.last))
            return self._content(of, kept)

        content = await asyncio.to_thread(gather)
        self._marks = kept.marks
        return content, kept.corrupt

    async def _known(self, of: Range, sound: Sequence[tuple[int, frames.Frame]]) -> set[bytes]:
        digests = {group.digest for _, frame in sound for group in frame.header.groups}
        return await self._store.known_digests(self._partition, of.first, digests) if digests else set()

    def _content(self, of: Range, kept: _Kept) -> Content:
        now_s = self._clock.now_ms() // 1000
        offsets = np.repeat(np.array([o for o, _ in kept.offsets], np.uint64), [n for _, n in kept.offsets])
        books = {name: [getattr(book, name) for book in kept.books] for name in _Book._fields}
        frame_columns = {
            "tenant": pa.array(books["tenant"], pa.uint64()),
            "producer": pa.array(books["producer"], pa.uint64()),
            "seq": pa.array(books["seq"], pa.uint64()),
            "accepted": pa.array(books["accepted"], pa.uint32()),
            "parked": pa.array(books["parked"], pa.uint32()),
            "duplicate": pa.array(books["duplicate"], pa.uint8()),
        }
        digests = {"digest": pa.array([digest for digest, _ in kept.digests], pa.binary(16))}
        digest_offsets = np.array([offset for _, offset in kept.digests], np.uint64)
        place = _Place(of.partition, now_s)
        return Content(
            rows=place.at(_row_columns(kept.batches), offsets),
            batches=place.at(digests, digest_offsets),
            parked=_parked(place, kept.parked),
            frames=place.at(frame_columns, np.array(books["offset"], np.uint64)),
        )


class _Place(NamedTuple):
    """Where rows came from: their partition, and when they were stored."""

    partition: int
    now_s: int

    def at(self, columns: dict[str, Any], offsets: npt.NDArray[np.uint64]) -> pa.Table:
        """The columns with the log's place beside them."""
        count = len(offsets)
        return pa.table(
            columns
            | {
                "_p": np.full(count, self.partition, np.uint8),
                "_o": offsets,
                "_t": pa.array(np.full(count, self.now_s, np.int64), pa.int64()).cast(_SECONDS),
            }
        )


def _decoded(kept: _Kept, records: Sequence[LogRecord]) -> list[tuple[int, frames.Frame]]:
    sound = []
    for record in records:
        if frames.is_void(record.headers):
            continue
        try:
            sound.append((record.offset, frames.decode(record.value, record.headers)))
        except frames.CorruptFrame as error:
            kept.corrupt.append(Corrupt(record, error))
            kept.books.append(_Book(0, record.offset, accepted=error.rows, parked=error.rows))
    return sound


def _take(kept: _Kept, offset: int, frame: frames.Frame, known: set[bytes]) -> None:
    """Adds what of one frame is new."""
    header = frame.header
    if header.frame_seq <= kept.marks.get(header.producer_id, 0):
        kept.books += [_Book(tenant, offset, duplicate=1) for tenant in set(frame.columns.column("tenant").to_pylist())]
        return
    kept.marks[header.producer_id] = header.frame_seq
    columns = _without_repeats(kept, offset, frame, known)
    flags = columns.column("flags").to_numpy()
    tenants, counts = np.unique(columns.column("tenant").to_numpy(), return_counts=True)
    parked = (flags & frames.PARKED) != 0
    set_aside = columns.column("tenant").to_numpy()[parked]
    for tenant, count in zip(tenants.tolist(), counts.tolist(), strict=True):
        kept.books.append(
            _Book(tenant, offset, header.producer_id, header.frame_seq, count, int((set_aside == tenant).sum()))
        )
    if not len(tenants):
        kept.books.append(_Book(0, offset, header.producer_id, header.frame_seq))
    if parked.any():
        kept.parked.append((offset, columns.filter(pa.array(parked))))
        columns = columns.filter(pa.array(~parked))
    kept.batches.append(columns)
    kept.offsets.append((offset, columns.num_rows))


def _without_repeats(kept: _Kept, offset: int, frame: frames.Frame, known: set[bytes]) -> pa.RecordBatch:
    """The frame's rows without the client batches that came before, in an earlier range or in this one."""
    repeated = np.zeros(frame.columns.num_rows, np.bool_)
    for group in frame.header.groups:
        if group.digest in known:
            repeated[group.first : group.first + group.rows] = True
        else:
            known.add(group.digest)
            kept.digests.append((group.digest, offset))
    return frame.columns.filter(pa.array(~repeated)) if repeated.any() else frame.columns


def _row_columns(batches: Sequence[pa.RecordBatch]) -> dict[str, Any]:
    """The store's columns of frames: texts as plain strings, missing names as empty ones."""
    table = pa.Table.from_batches(batches, frames.SCHEMA)
    columns: dict[str, Any] = {"ts": table.column("ts").cast(pa.timestamp("ms", "UTC"))}
    for name in _ROW_COLUMNS:
        columns[name] = table.column(name)
    columns["kind"] = columns["kind"].cast(pa.string())
    columns["name"] = pc.fill_null(columns["name"].cast(pa.string()), "")
    return columns


def _parked(place: _Place, parked: Sequence[tuple[int, pa.RecordBatch]]) -> pa.Table:
    rows = _row_columns([columns for _, columns in parked])
    offsets = np.repeat(np.array([o for o, _ in parked], np.uint64), [columns.num_rows for _, columns in parked])
    return place.at({name: rows[name] for name in ("tenant", "ts", "kind", "props")}, offsets)
