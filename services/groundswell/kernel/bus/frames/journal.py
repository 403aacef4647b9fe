"""The journal: rows on disk from the moment they are accepted until the log has acknowledged their frame.

A folder holds segments `<producer_id>-<n>.log` of records: `length, crc32, body`. Bodies:

    R  one row                         G  the rows of one client batch, with its digest
    F  a frame's border: (partition, frame_seq, first row, rows), written before the frame is sent
    C  a frame that came as columns: its border and its body
    A  all frames of a partition up to a number are acknowledged (written lazily: it only saves sending again)
    S  where every partition stands; the first record of each segment

Rows of a partition are numbered by their order in the journal, so a border alone says which rows a frame holds: a
successor cuts the same frames that its predecessor had announced, gives them the same numbers, and only then goes on.
One `os.write` per record puts it into the page cache, which survives the process (kill -9) but not the machine; a torn
last record is cut off, its answer never left. One process at a time holds the folder (flock).
"""

import fcntl
import logging
import os
import secrets
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from groundswell.kernel import errors
from groundswell.kernel.bus.frames import codec

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10.0

_HEAD = struct.Struct("<II")
_ROW = struct.Struct("<HBHH")
_BORDER = struct.Struct("<HQQI")
_COLUMNS = struct.Struct("<HQQIqq")
_ACK = struct.Struct("<HQ")
_PLACE = struct.Struct("<QQ")
_BATCH = struct.Struct("<16sI")
_PREFIX = _ROW.size + codec.FIXED.size

_crc32 = zlib.crc32
_write = os.write


class JournalFull(errors.Unavailable):
    """The rows that the log has not yet taken fill the journal, or the disk is full."""


class JournalBusy(Exception):
    """Another living process holds the journal's folder."""


@dataclass(slots=True)
class Announced:
    """A frame that has its number: cut out of rows (`columns`) or given as a body (`body`)."""

    seq: int
    first: int
    rows: int
    columns: codec.Columns | None = None
    body: bytes = b""
    min_ts_ms: int = 0
    max_ts_ms: int = 0


@dataclass(slots=True)
class Place:
    """Where one partition stands: the number of its next row and of its next frame, and what waits for the log."""

    next_row: int = 0
    next_seq: int = 1
    announced: deque[Announced] = field(default_factory=deque)
    open: codec.Columns = field(default_factory=codec.Columns)


class Unjournaled:
    """Keeps nothing: for processes whose rows may die with them."""

    def __init__(self, partitions: int) -> None:
        self.producer_id = secrets.randbits(63)
        self.places = [Place() for _ in range(partitions)]
        self.size_bytes = 0

    def row(self, packed: bytes) -> None:
        """Keeps one row."""

    def group(self, digest: bytes, packed: Sequence[bytes]) -> None:
        """Keeps the rows of one batch, all of one partition."""

    def border(self, partition: int, seq: int, first: int, rows: int) -> None:
        """Keeps that a frame holds these rows."""

    def columns(self, partition: int, frame: Announced) -> None:
        """Keeps a frame that came as columns."""

    def acknowledge(self, partition: int, seq: int, rows_end: int) -> None:
        """The log has all frames of the partition up to `seq`, hence all rows below `rows_end`."""

    def close(self) -> None:
        """Ends the work with the folder."""


@dataclass(slots=True)
class _Segment:
    path: Path
    size_bytes: int
    rows_end: list[int]


class Journal(Unjournaled):
    """The journal in a folder. Not thread-safe: one event loop appends."""

    def __init__(
        self, folder: Path, partitions: int, *, bytes_max: int = 256 << 20, segment_bytes: int = 16 << 20
    ) -> None:
        """Takes the folder and reads what a predecessor left; raises `JournalBusy` when it is alive."""
        super().__init__(partitions)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bytes_max, self._segment_bytes = folder, bytes_max, segment_bytes
        self._lock = _locked(folder)
        self.producer_id = _identity(folder)
        self._acknowledged_rows = [0] * partitions
        self._closed: deque[_Segment] = deque()
        last = self._recover()
        self._number = last
        self._open_segment()
        self._prune()

    def row(self, packed: bytes) -> None:
        self._append(b"R" + packed)

    def group(self, digest: bytes, packed: Sequence[bytes]) -> None:
        self._append(b"G" + _BATCH.pack(digest, len(packed)) + b"".join(packed))

    def border(self, partition: int, seq: int, first: int, rows: int) -> None:
        # Borders and acknowledgements may exceed the bound: they are what lets a full journal empty itself.
        self._append(b"F" + _BORDER.pack(partition, seq, first, rows), bounded=False)

    def columns(self, partition: int, frame: Announced) -> None:
        head = _COLUMNS.pack(partition, frame.seq, frame.first, frame.rows, frame.min_ts_ms, frame.max_ts_ms)
        self._append(b"C" + head + frame.body)

    def acknowledge(self, partition: int, seq: int, rows_end: int) -> None:
        self._acknowledged_rows[partition] = rows_end
        self._append(b"A" + _ACK.pack(partition, seq), bounded=False)
        if self._current.size_bytes >= self._segment_bytes:
            self._rotate()
        self._prune()

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._lock)

    def _append(self, body: bytes, *, bounded: bool = True) -> None:
        record = _HEAD.pack(len(body), _crc32(body)) + body
        size = len(record)
        if bounded and self.size_bytes + size > self._bytes_max:
            raise JournalFull("The journal of telemetry is full: the log has not taken its rows. Try again later.")
        try:
            written = _write(self._fd, record)
        except OSError as error:
            raise JournalFull(f"The journal of telemetry cannot be written: {error.strerror}.") from error
        if written != size:
            os.ftruncate(self._fd, self._current.size_bytes)
            raise JournalFull("The journal of telemetry cannot be written: no space left.")
        self._current.size_bytes += size
        self.size_bytes += size

    def _open_segment(self) -> None:
        self._number += 1
        path = self._folder / f"{self.producer_id}-{self._number:012d}.log"
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._current = _Segment(path, 0, [])
        self._append(
            b"S" + b"".join(_PLACE.pack(place.next_row, place.next_seq) for place in self.places), bounded=False
        )

    def _rotate(self) -> None:
        self._current.rows_end = [place.next_row for place in self.places]
        os.close(self._fd)
        self._closed.append(self._current)
        self._open_segment()

    def _prune(self) -> None:
        """Deletes the oldest segments whose rows are all acknowledged."""
        while self._closed and all(
            done >= end for done, end in zip(self._acknowledged_rows, self._closed[0].rows_end, strict=True)
        ):
            oldest = self._closed.popleft()
            oldest.path.unlink(missing_ok=True)
            self.size_bytes -= oldest.size_bytes

    def _recover(self) -> int:
        """Reads all segments, oldest first, into `places`; returns the number of the newest one."""
        paths = sorted(self._folder.glob(f"{self.producer_id}-*.log"))
        replay = Replay(self.places)
        for path in paths:
            sound = replay.segment(path.read_bytes())
            if sound < path.stat().st_size:
                log.warning("%s: cut off %d bytes of a torn record", path.name, path.stat().st_size - sound)
                os.truncate(path, sound)
            self._closed.append(_Segment(path, sound, [place.next_row for place in self.places]))
            self.size_bytes += sound
        replay.finish()
        for partition, place in enumerate(self.places):
            waiting = sum(frame.rows for frame in place.announced) + len(place.open)
            self._acknowledged_rows[partition] = place.next_row - waiting
        return int(paths[-1].stem.rpartition("-")[2]) if paths else 0


class _Kept(NamedTuple):
    """A row as it stands in a segment; `group` numbers the batches it may belong to, 0 for none."""

    number: int
    packed: memoryview
    digest: bytes
    group: int


class Replay:
    """Rebuilds what waits for the log from the records of a predecessor."""

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        self._rows: list[deque[_Kept]] = [deque() for _ in places]
        self._groups = 0

    def segment(self, content: bytes) -> int:
        """Reads one segment; returns how many of its bytes are sound."""
        read: dict[str, Callable[[memoryview], object]] = {
            "R": lambda body: self._row(body, b""),
            "G": self._group,
            "F": lambda body: self._border(*_BORDER.unpack(body)),
            "C": self._body,
            "A": lambda body: self._acknowledge(*_ACK.unpack(body)),
            "S": self._start,
        }
        sound = 0
        for body, end in _records(content):
            read[chr(body[0])](body[1:])
            sound = end
        return sound

    def finish(self) -> None:
        """Makes frames of announced rows, and of the rest the open one."""
        for place, waiting in zip(self._places, self._rows, strict=True):
            for frame in place.announced:
                if frame.columns is not None:
                    _fill(frame.columns, waiting, frame.first + frame.rows)
                    if len(frame.columns) != frame.rows:
                        log.error("frame %d lost rows with the disk; it is not sent", frame.seq)
            place.announced = deque(f for f in place.announced if f.columns is None or len(f.columns) == f.rows)
            _fill(place.open, waiting, place.next_row)

    def _start(self, body: memoryview) -> None:
        for place, (next_row, next_seq) in zip(self._places, _PLACE.iter_unpack(body), strict=False):
            place.next_row, place.next_seq = max(place.next_row, next_row), max(place.next_seq, next_seq)

    def _row(self, packed: memoryview, digest: bytes, group: int = 0) -> int:
        partition, kind, props, name = _ROW.unpack_from(packed)
        place = self._places[partition]
        size = _PREFIX + kind + props + name
        self._rows[partition].append(_Kept(place.next_row, packed[:size], digest, group))
        place.next_row += 1
        return int(size)

    def _group(self, body: memoryview) -> None:
        digest, rows = _BATCH.unpack_from(body)
        at = _BATCH.size
        self._groups += 1
        for _ in range(rows):
            at += self._row(body[at:], digest, self._groups)

    def _border(self, partition: int, seq: int, first: int, rows: int) -> None:
        place, waiting = self._places[partition], self._rows[partition]
        place.next_seq = seq + 1
        if waiting and waiting[0].number <= first:
            place.announced.append(Announced(seq, first, rows, codec.Columns()))
            return
        # Its first rows were in a segment that is gone: all of the frame had been acknowledged.
        while waiting and waiting[0].number < first + rows:
            waiting.popleft()

    def _body(self, body: memoryview) -> None:
        partition, seq, first, rows, min_ts_ms, max_ts_ms = _COLUMNS.unpack_from(body)
        place = self._places[partition]
        place.next_seq, place.next_row = seq + 1, first + rows
        place.announced.append(Announced(seq, first, rows, None, bytes(body[_COLUMNS.size :]), min_ts_ms, max_ts_ms))

    def _acknowledge(self, partition: int, seq: int) -> None:
        place, waiting = self._places[partition], self._rows[partition]
        while place.announced and place.announced[0].seq <= seq:
            frame = place.announced.popleft()
            while frame.columns is not None and waiting and waiting[0].number < frame.first + frame.rows:
                waiting.popleft()


def pack_row(partition: int, row: codec.Row) -> tuple[bytes, bytes, int]:
    """(record's bytes, fixed part, bytes of the texts) of a row; raises `Invalid` when a field is out of its bounds."""
    ts_ms, kind, tenant, item, user, network, country, device, flags, value, props, name = row
    try:
        fixed = codec.FIXED.pack(ts_ms, tenant, item, user, value, network, country, device, flags)
        kind_bytes = kind.encode()
        props_bytes = props.encode() if props else b""
        name_bytes = name.encode() if name else b""
        head = _ROW.pack(partition, len(kind_bytes), len(props_bytes), len(name_bytes))
    except (struct.error, UnicodeEncodeError) as error:
        raise errors.Invalid(f"A row of telemetry is out of bounds: {error}.") from error
    text_bytes = len(kind_bytes) + len(props_bytes) + len(name_bytes)
    if len(props_bytes) > codec.PROPS_BYTES_MAX or len(name_bytes) > codec.NAME_BYTES_MAX:
        raise errors.Invalid(
            f"A row's properties may take {codec.PROPS_BYTES_MAX} bytes and its name {codec.NAME_BYTES_MAX}."
        )
    return head + fixed + kind_bytes + props_bytes + name_bytes, fixed, text_bytes


def _fill(columns: codec.Columns, waiting: deque[_Kept], end: int) -> None:
    """Moves the rows numbered below `end` into `columns`."""
    group = 0
    while waiting and waiting[0].number < end:
        kept = waiting.popleft()
        if kept.group and kept.group != group:
            columns.groups.append(codec.Group(kept.digest, len(columns), 0))
        group = kept.group
        if group:
            columns.groups[-1] = columns.groups[-1]._replace(rows=columns.groups[-1].rows + 1)
        _, kind, props, _ = _ROW.unpack_from(kept.packed)
        texts = bytes(kept.packed[_PREFIX:])
        columns.add(
            bytes(kept.packed[_ROW.size : _PREFIX]),
            texts[:kind].decode(),
            texts[kind : kind + props].decode(),
            texts[kind + props :].decode(),
            len(texts),
        )


def _records(content: bytes) -> Iterator[tuple[memoryview, int]]:
    """(body, end) of each sound record, up to the first that is not."""
    view, at = memoryview(content), 0
    while at + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(view, at)
        end = at + _HEAD.size + length
        body = view[at + _HEAD.size : end]
        if length == 0 or end > len(content) or _crc32(body) != checksum:
            return
        yield body, end
        at = end


def _locked(folder: Path) -> int:
    """Takes the folder's lock, waiting a little for a predecessor that is just dying."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(lock)
                raise JournalBusy(
                    f"{folder} is in use by another process. Stop it, or give this one another folder."
                ) from error
            time.sleep(0.05)


def _identity(folder: Path) -> int:
    """The producer's number: drawn once for a folder, so that a successor goes on under the same name."""
    path = folder / "producer_id"
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        drawn = secrets.randbits(63)
        draft = folder / "producer_id.new"
        draft.write_text(str(drawn))
        draft.replace(path)
        return drawn
