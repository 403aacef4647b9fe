"""Where the partitions of a producer stand, and how a successor finds that out from the journal of its predecessor.

After kill -9 the journal is whole up to a torn last record. After a crash of the machine each segment may have lost its
end, borders of frames included that the log has. What is left of a frame's rows is therefore sent under the frame's own
number and nothing is added to it: if the log has the frame, readers drop what comes again; if not, what is left is
counted. The rows that no border names were all meant for the frame that was next: no other could be cut before it.

Only where rows lie is kept (see `stored`): a full journal is millions of rows, and its successor must fit into the memory
of any other process.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from groundswell.kernel.bus.frames import codec, records, stored


@dataclass(slots=True)
class Announced:
    """A frame that has its number: cut out of rows (`columns`), given as a body (`body`), or yet to be read (`pieces`)."""

    seq: int
    first: int
    """Number of its first row."""
    end: int
    """The number after its last row's."""
    rows: int
    """How many it has; fewer than its numbers say when the machine lost some."""
    columns: codec.Columns | None = None
    body: bytes = b""
    min_ts_ms: int = 0
    max_ts_ms: int = 0
    pieces: Sequence[stored.Piece] = ()


@dataclass(slots=True)
class Place:
    """Where one partition stands: the number of its next row and of its next frame, and what waits for the log."""

    next_row: int = 0
    next_seq: int = 1
    announced: deque[Announced] = field(default_factory=deque)
    open: codec.Columns = field(default_factory=codec.Columns)

    @property
    def waits_from(self) -> int:
        """All rows below this number are in the log."""
        return self.announced[0].first if self.announced else self.next_row - len(self.open)


_Kept = tuple[int, int, Path, int]
"""One row, or the rows of one batch: (number of the first row, rows, segment, offset). No class: there are millions."""


@dataclass(slots=True)
class _Found:
    """What was read of one partition."""

    place: Place
    rows: deque[_Kept] = field(default_factory=deque)
    """Those that no border has named so far: a frame's worth, as no row is written behind a full frame without border."""
    frames: deque[Announced] = field(default_factory=deque)

    def announce(self, seq: int, first: int, end: int) -> None:
        """Makes a frame of what is left of the rows below `end`."""
        kept = []
        while self.rows and self.rows[0][0] < end:
            kept.append(self.rows.popleft())
        if kept:
            pieces = [
                stored.piece(segment, [offset for _, _, _, offset in part])
                for segment, part in groupby(kept, key=itemgetter(2))
            ]
            self.frames.append(Announced(seq, first, end, sum(rows for _, rows, _, _ in kept), pieces=pieces))


class Replay:
    """Rebuilds what waits for the log from the segments of a predecessor, read from the oldest on."""

    def __init__(self, places: list[Place]) -> None:
        """`places` is filled, and extended by the partitions that the journal has more."""
        self._places = places
        self._found = [_Found(place) for place in places]

    def segment(self, path: Path, content: bytes) -> int:
        """Reads one segment; returns how many of its bytes are sound."""
        read: dict[int, Callable[[memoryview], object]] = {
            ord("F"): lambda body: self._border(*records.BORDER.unpack(body)),
            ord("A"): lambda body: self._acknowledge(*records.ACK.unpack(body)),
            ord("S"): self._start,
        }
        row, group, columns = records.ROW_KIND[0], records.GROUP_KIND[0], records.COLUMNS_KIND[0]
        sound = 0
        for body, end in records.sound(content):
            kind = body[0]
            if kind == row:
                self._rows(body, 1, 1, path, sound)
            elif kind == group:
                _, rows = records.BATCH.unpack_from(body, 1)
                self._rows(body, 1 + records.BATCH.size, rows, path, sound)
            elif kind == columns:
                self._columns(body, path, sound)
            else:
                read[kind](body[1:])
            sound = end
        return sound

    def finish(self, seq_min: int) -> None:
        """Makes frames of all rows; frames that are cut from now on have numbers from `seq_min` on."""
        for found in self._found:
            self._skip_to(found, max(found.place.next_seq + 1, seq_min))
            found.place.announced.extend(found.frames)

    def _of(self, partition: int) -> _Found:
        while partition >= len(self._places):
            self._places.append(Place())
            self._found.append(_Found(self._places[-1]))
        return self._found[partition]

    def _start(self, body: memoryview) -> None:
        for partition, (next_row, next_seq) in enumerate(records.PLACE.iter_unpack(body)):
            found = self._of(partition)
            if next_seq > found.place.next_seq:
                self._skip_to(found, next_seq)
            found.place.next_row = max(found.place.next_row, next_row)

    def _skip_to(self, found: _Found, next_seq: int) -> None:
        """Numbers are left out: the rows without a border are the frame that was next."""
        place = found.place
        if found.rows:
            found.announce(place.next_seq, found.rows[0][0], place.next_row)
        place.next_seq = next_seq

    def _rows(self, body: memoryview, at: int, rows: int, path: Path, offset: int) -> None:
        """Rows of one record, hence of one partition; the first one begins at `at`."""
        found = self._of(*records.PARTITION.unpack_from(body, at))
        place = found.place
        found.rows.append((place.next_row, rows, path, offset))
        place.next_row += rows

    def _border(self, partition: int, seq: int, first: int, rows: int) -> None:
        found = self._of(partition)
        found.place.next_seq = seq + 1
        found.announce(seq, first, first + rows)

    def _columns(self, body: memoryview, path: Path, offset: int) -> None:
        partition, seq, first, rows, min_ts_ms, max_ts_ms = records.COLUMNS.unpack_from(body, 1)
        found = self._of(partition)
        found.place.next_seq, found.place.next_row = seq + 1, first + rows
        pieces = [stored.piece(path, [offset])]
        found.frames.append(Announced(seq, first, first + rows, rows, None, b"", min_ts_ms, max_ts_ms, pieces))

    def _acknowledge(self, partition: int, seq: int) -> None:
        frames = self._of(partition).frames
        while frames and frames[0].seq <= seq:
            frames.popleft()
