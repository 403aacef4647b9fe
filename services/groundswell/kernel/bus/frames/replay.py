"""Where the partitions of a producer stand, and how a successor finds that out from the journal of its predecessor.

After kill -9 the journal is whole up to a torn last record. After a crash of the machine each segment may have lost its
end, borders of frames included that the log has. What is left of a frame's rows is therefore sent under the frame's own
number and nothing is added to it: if the log has the frame, readers drop what comes again; if not, what is left is
counted. The rows that no border names were all meant for the frame that was next: no other could be cut before it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from groundswell.kernel.bus.frames import codec, records


@dataclass(slots=True)
class Announced:
    """A frame that has its number: cut out of rows (`columns`) or given as a body (`body`)."""

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


class _Kept(NamedTuple):
    """A row as it stands in a segment; `group` numbers the batches it may belong to, 0 for none."""

    number: int
    packed: memoryview
    digest: bytes
    group: int


@dataclass(slots=True)
class _Found:
    """What was read of one partition."""

    place: Place
    rows: deque[_Kept] = field(default_factory=deque)
    """Those that no border has named so far."""
    frames: deque[tuple[Announced, list[_Kept]]] = field(default_factory=deque)

    def announce(self, seq: int, first: int, end: int) -> None:
        """Makes a frame of what is left of the rows below `end`."""
        kept = []
        while self.rows and self.rows[0].number < end:
            kept.append(self.rows.popleft())
        if kept:
            self.frames.append((Announced(seq, first, end, len(kept)), kept))


class Replay:
    """Rebuilds what waits for the log from the segments of a predecessor, read from the oldest on."""

    def __init__(self, places: list[Place]) -> None:
        """`places` is filled, and extended by the partitions that the journal has more."""
        self._places = places
        self._found = [_Found(place) for place in places]
        self._groups = 0

    def segment(self, content: bytes) -> int:
        """Reads one segment; returns how many of its bytes are sound."""
        read: dict[str, Callable[[memoryview], object]] = {
            "R": lambda body: self._row(body, b""),
            "G": self._group,
            "F": lambda body: self._border(*records.BORDER.unpack(body)),
            "C": self._body,
            "A": lambda body: self._acknowledge(*records.ACK.unpack(body)),
            "S": self._start,
        }
        sound = 0
        for body, end in records.sound(content):
            read[chr(body[0])](body[1:])
            sound = end
        return sound

    def finish(self, seq_min: int) -> None:
        """Makes frames of all rows; frames that are cut from now on have numbers from `seq_min` on."""
        for found in self._found:
            self._skip_to(found, max(found.place.next_seq + 1, seq_min))
            for frame, kept in found.frames:
                if kept:
                    frame.columns = _columns(kept)
                found.place.announced.append(frame)

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
            found.announce(place.next_seq, found.rows[0].number, place.next_row)
        place.next_seq = next_seq

    def _row(self, packed: memoryview, digest: bytes, group: int = 0) -> int:
        partition, kind, props, name = records.ROW.unpack_from(packed)
        found = self._of(partition)
        size = records.ROW_PREFIX + kind + props + name
        found.rows.append(_Kept(found.place.next_row, packed[:size], digest, group))
        found.place.next_row += 1
        return int(size)

    def _group(self, body: memoryview) -> None:
        digest, rows = records.BATCH.unpack_from(body)
        at = records.BATCH.size
        self._groups += 1
        for _ in range(rows):
            at += self._row(body[at:], digest, self._groups)

    def _border(self, partition: int, seq: int, first: int, rows: int) -> None:
        found = self._of(partition)
        found.place.next_seq = seq + 1
        found.announce(seq, first, first + rows)

    def _body(self, body: memoryview) -> None:
        partition, seq, first, rows, min_ts_ms, max_ts_ms = records.COLUMNS.unpack_from(body)
        found = self._of(partition)
        found.place.next_seq, found.place.next_row = seq + 1, first + rows
        content = bytes(body[records.COLUMNS.size :])
        found.frames.append((Announced(seq, first, first + rows, rows, None, content, min_ts_ms, max_ts_ms), []))

    def _acknowledge(self, partition: int, seq: int) -> None:
        frames = self._of(partition).frames
        while frames and frames[0][0].seq <= seq:
            frames.popleft()


def _columns(rows: list[_Kept]) -> codec.Columns:
    columns, group = codec.Columns(), 0
    for kept in rows:
        if kept.group and kept.group != group:
            columns.groups.append(codec.Group(kept.digest, len(columns), 0))
        group = kept.group
        if group:
            columns.groups[-1] = columns.groups[-1]._replace(rows=columns.groups[-1].rows + 1)
        _, kind, props, _ = records.ROW.unpack_from(kept.packed)
        texts = bytes(kept.packed[records.ROW_PREFIX :])
        columns.add(
            bytes(kept.packed[records.ROW.size : records.ROW_PREFIX]),
            texts[:kind].decode(),
            texts[kind : kind + props].decode(),
            texts[kind + props :].decode(),
            len(texts),
        )
    return columns
