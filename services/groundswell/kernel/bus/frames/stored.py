"""Frames that wait in segments of a journal: a successor keeps where their rows lie, and reads one when its turn comes.

After a long outage a journal holds millions of rows. As objects they would take gigabytes; their places take four bytes
each. A segment is deleted only after its last row is in the log, so what a place names is there for as long as it is wanted.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from groundswell.kernel.bus.frames import codec, records

READ_BYTES = 128 * 1024
"""Of a segment at a time. The rows of a rare partition may be spread over all of it."""


class Piece(NamedTuple):
    """The part of a frame that lies in one segment."""

    segment: Path
    offsets: "array[int]"
    """Where its records begin."""


def piece(segment: Path, offsets: Sequence[int]) -> Piece:
    """A piece of one record at least; `offsets` ascend."""
    return Piece(segment, array("I" if offsets[-1] < 1 << 32 else "Q", offsets))


def columns(pieces: Sequence[Piece]) -> codec.Columns:
    """The rows of a frame in their order; raises `OSError` when a segment cannot be read."""
    found = codec.Columns()
    for body in _bodies(pieces):
        if body[:1] == records.ROW_KIND:
            _add(found, body, 1)
        else:
            digest, rows = records.BATCH.unpack_from(body, 1)
            found.groups.append(codec.Group(digest, len(found), rows))
            at = 1 + records.BATCH.size
            for _ in range(rows):
                at = _add(found, body, at)
    return found


def body_of(pieces: Sequence[Piece]) -> bytes:
    """The body of a frame that came as columns, b"" if it came as rows; raises `OSError` when a segment cannot be read."""
    first = next(_bodies(pieces))
    return first[1 + records.COLUMNS.size :] if first[:1] == records.COLUMNS_KIND else b""


def _bodies(pieces: Sequence[Piece]) -> Iterator[bytes]:
    for segment, offsets in pieces:
        with segment.open("rb", buffering=READ_BYTES) as file:
            for offset in offsets:
                file.seek(offset)
                length, _ = records.HEAD.unpack(file.read(records.HEAD.size))
                yield file.read(length)


def _add(found: codec.Columns, body: bytes, at: int) -> int:
    """Adds the row that begins at `at`; returns where it ends."""
    _, kind, props, name = records.ROW.unpack_from(body, at)
    texts = at + records.ROW_PREFIX
    props_at = texts + kind
    name_at = props_at + props
    end: int = name_at + name
    found.add(
        body[at + records.ROW.size : texts],
        body[texts:props_at].decode(),
        body[props_at:name_at].decode() if props else "",
        body[name_at:end].decode() if name else "",
        end - texts,
    )
    return end
