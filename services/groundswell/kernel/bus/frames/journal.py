"""The journal: rows on disk from the moment they are accepted until the log has acknowledged their frame.

A folder holds segments `<producer_id>-<n>.log` of records: `length, crc32, body`. Bodies:

    R  one row                         G  the rows of one client batch, with its digest
    F  a frame's border: (partition, frame_seq, first row, rows), written before the frame is sent
    C  a frame that came as columns: its border and its body
    A  all frames of a partition up to a number are acknowledged (written lazily: it only saves sending again)
    S  where every partition stands; the first record of each segment. Where it leaves out numbers of frames, all rows
       without a border are the first of them

Rows of a partition are numbered by their order in the journal, so a border alone says which rows a frame holds: a
successor cuts the same frames that its predecessor had announced, gives them the same numbers, and only then goes on.
One `os.write` per record puts it into the page cache, which survives the process (kill -9) but not the machine; a torn
last record is cut off, its answer never left. A successor numbers its own frames by the clock, beyond any that a
machine's crash may have wiped out. One process at a time holds the folder (flock).
"""

import errno
import fcntl
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from groundswell.kernel import disk, errors
from groundswell.kernel.bus.frames import records
from groundswell.kernel.bus.frames.replay import Announced, Place, Replay

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10.0
RENEWALS_TRIED_PER_SEGMENT = 16
"""A segment that cannot be begun is tried again after this part of a segment's bytes, not with every row."""


class JournalFull(errors.Unavailable):
    """The rows that the log has not yet taken fill the journal, or the disk is full."""


class JournalBusy(Exception):
    """Another living process holds the journal's folder."""


class Unjournaled:
    """Keeps nothing: for processes whose rows may die with them."""

    def __init__(self, partitions: int) -> None:
        self.producer_id = secrets.randbits(63)
        self.places = [Place() for _ in range(partitions)]
        """One for each partition, and for each more that a predecessor left rows for."""
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
        """The log has all frames of the partition up to `seq`, hence all rows below `rows_end`. Never raises."""

    def close(self) -> None:
        """Ends the work with the folder."""


@dataclass(slots=True)
class _Segment:
    path: Path
    size_bytes: int
    rows_end: list[int]


class Journal(Unjournaled):
    """The journal in a folder. Not thread-safe: one event loop appends.

    What keeps something raises `JournalFull` when it cannot, and then nothing of it is kept.
    """

    def __init__(
        self,
        folder: Path,
        partitions: int,
        *,
        bytes_max: int = 256 << 20,
        segment_bytes: int = 16 << 20,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        """Takes the folder and reads what a predecessor left, which takes seconds when that is much; raises `JournalBusy` when it
        is alive after `lock_wait_s`."""
        super().__init__(partitions)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bytes_max, self._segment_bytes = folder, bytes_max, segment_bytes
        self._closed: deque[_Segment] = deque()
        self._current, self._fd, self._number = _Segment(folder, 0, []), -1, 0
        self._renewal_bytes = 0
        self._lock = _locked(folder, lock_wait_s)
        try:
            self.producer_id = _identity(folder)
            self._recover()
        except BaseException:
            os.close(self._lock)  # for whoever tries again
            raise
        self._acknowledged_rows = [place.waits_from for place in self.places]
        with suppress(JournalFull):  # a full disk: each record tries again
            self._renew()
        self._prune()

    def row(self, packed: bytes) -> None:
        self._append(records.ROW_KIND + packed)

    def group(self, digest: bytes, packed: Sequence[bytes]) -> None:
        self._append(records.GROUP_KIND + records.BATCH.pack(digest, len(packed)) + b"".join(packed))

    def border(self, partition: int, seq: int, first: int, rows: int) -> None:
        # Borders and acknowledgements may exceed the bound: they are what lets a full journal empty itself.
        self._append(b"F" + records.BORDER.pack(partition, seq, first, rows), bounded=False)

    def columns(self, partition: int, frame: Announced) -> None:
        head = records.COLUMNS.pack(partition, frame.seq, frame.first, frame.rows, frame.min_ts_ms, frame.max_ts_ms)
        self._append(records.COLUMNS_KIND + head + frame.body)

    def acknowledge(self, partition: int, seq: int, rows_end: int) -> None:
        self._acknowledged_rows[partition] = rows_end
        with suppress(JournalFull):  # a successor sends the frame once more, and readers drop it
            self._append(b"A" + records.ACK.pack(partition, seq), bounded=False)
        self._prune()

    def vacate(self) -> None:
        """Removes the segments once the log has all rows: for a folder that nobody goes on to write in. Raises `OSError`.

        The newest holds the borders of frames whose rows lie in older ones. So it goes only after those are gone from the disk for
        good: rows that came back without their border would be sent under another name.
        """
        self._prune()
        if self._closed:
            return
        disk.sync(self._folder)
        self._set_aside()
        self._renewal_bytes = 0
        self._prune()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        os.close(self._lock)

    def _append(self, body: bytes, *, bounded: bool = True) -> None:
        record = records.framed(body)
        size = len(record)
        if bounded and self.size_bytes + size > self._bytes_max:
            raise JournalFull("The journal of telemetry is full: the log has not taken its rows. Try again later.")
        if self._current.size_bytes >= self._renewal_bytes:
            self._renew()
        try:
            _write(self._fd, record)
        except OSError as error:
            self._cut_back()
            raise JournalFull(f"The journal of telemetry cannot be written: {error.strerror}.") from error
        self._current.size_bytes += size
        self.size_bytes += size

    def _renew(self) -> None:
        """Begins the next segment. While it cannot, records go on into the one there is; without one: `JournalFull`."""
        try:
            fd, segment = self._begun()
        except OSError as error:
            if self._fd < 0:
                raise JournalFull(f"The journal of telemetry cannot be written: {error.strerror}.") from error
            log.warning("the journal's segment grows on, since the next one cannot be begun: %s", error)
            self._renewal_bytes = self._current.size_bytes + self._segment_bytes // RENEWALS_TRIED_PER_SEGMENT
            return
        self._set_aside()
        self._fd, self._current, self._renewal_bytes = fd, segment, self._segment_bytes
        self.size_bytes += segment.size_bytes

    def _begun(self) -> tuple[int, _Segment]:
        """A new segment and its descriptor; raises `OSError` and leaves no half-made one."""
        self._number += 1
        path = self._folder / f"{self.producer_id}-{self._number:012d}.log"
        places = b"".join(records.PLACE.pack(place.next_row, place.next_seq) for place in self.places)
        record = records.framed(b"S" + places)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            _write(fd, record)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return fd, _Segment(path, len(record), [])

    def _set_aside(self) -> None:
        """Closes the current segment; it is deleted when its rows are acknowledged."""
        if self._fd >= 0:
            self._current.rows_end = [place.next_row for place in self.places]
            self._closed.append(self._current)
            fd, self._fd = self._fd, -1
            with suppress(OSError):  # the descriptor is gone either way, and what was written is written
                os.close(fd)

    def _cut_back(self) -> None:
        """Takes a half-written record away; a segment that keeps it is written no more, since reading ends there."""
        try:
            os.ftruncate(self._fd, self._current.size_bytes)
        except OSError as error:
            log.warning("a torn record stays at the end of %s: %s", self._current.path.name, error)
            self._set_aside()
            self._renewal_bytes = 0

    def _prune(self) -> None:
        """Deletes the oldest segments whose rows are all acknowledged."""
        while self._closed and all(
            done >= end for done, end in zip(self._acknowledged_rows, self._closed[0].rows_end, strict=False)
        ):
            oldest = self._closed[0]
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s stays until the next acknowledgement: %s", oldest.path.name, error)
                return
            self._closed.popleft()
            self.size_bytes -= oldest.size_bytes

    def _recover(self) -> None:
        """Reads all segments, oldest first, into `places`."""
        replay = Replay(self.places)
        for path in sorted(self._folder.glob(f"{self.producer_id}-*.log")):
            content = path.read_bytes()
            sound = replay.segment(path, content)
            if sound < len(content):
                log.warning("%s: cut off %d bytes of a torn record", path.name, len(content) - sound)
                os.truncate(path, sound)
            self._closed.append(_Segment(path, sound, [place.next_row for place in self.places]))
            self.size_bytes += sound
            self._number = int(path.stem.rpartition("-")[2])
        replay.finish(seq_min=time.time_ns() // 1_000)


def _write(fd: int, record: bytes) -> None:
    """Writes all of a record; raises `OSError`, after which a part may be there."""
    if os.write(fd, record) != len(record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _locked(folder: Path, lock_wait_s: float) -> int:
    """Takes the folder's lock, waiting a little for a predecessor that is just dying."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + lock_wait_s
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
    """The producer's number: drawn once for a folder, so that a successor goes on under the same name.

    It is on the disk before the first segment that carries it; where it is gone all the same, segments tell it.
    """
    path = folder / "producer_id"
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        segments = sorted(folder.glob("*-*.log"), key=lambda segment: segment.stat().st_mtime)
        drawn = int(segments[-1].name.partition("-")[0]) if segments else secrets.randbits(63)
        draft = folder / "producer_id.new"
        with draft.open("w") as file:
            file.write(str(drawn))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        disk.sync(folder)
        return drawn
