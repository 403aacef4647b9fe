"""The frame format: rows to columns to bytes, and back with every check that a reader needs.

The fixed part of a row is packed once, when the row is appended, and the same bytes serve the journal and the columns:
48 bytes a row seen through a numpy structure give eight columns without touching a row again. Strings are few (a kind
is one of a handful), so they are dictionaries; `props` is the only free text.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

SCHEMA_VERSION = b"1"
ROWS_MAX = 8_192
FRAME_BYTES_MAX = 900 * 1024
"""Above this no frame is made: brokers take 1 MiB a record."""
COLUMNS_BYTES_MAX = 512 * 1024
"""Before compression (`Columns.size_bytes`). With at most 16 bytes a row for what Arrow adds and 24 a row for batches,
8,192 rows stay below `FRAME_BYTES_MAX`."""
KIND_BYTES_MAX = 64
NAME_BYTES_MAX = 2_048
PROPS_BYTES_MAX = 32_768

BOT, LATE, EARLY, PARKED = 1, 2, 4, 8
"""Bits of `flags`: made by a machine; older than a day when it came; ahead of our clock, so clamped; set aside, not
counted."""

TOP_BIT = 1 << 63
_MASK = (1 << 64) - 1
_USER_FACTOR, _TENANT_FACTOR = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_PLAIN = pa.ipc.IpcWriteOptions(use_threads=False)
_READ = pa.ipc.IpcReadOptions(use_threads=False)
_COMPRESS_ROWS_MIN = 64
"""Smaller frames are mostly schema, which compression does not touch."""

_DICTIONARY = pa.dictionary(pa.int16(), pa.string())
SCHEMA = pa.schema(
    [
        ("ts", pa.int64()),
        ("kind", _DICTIONARY),
        ("tenant", pa.uint64()),
        ("item", pa.uint64()),
        ("user", pa.uint64()),
        ("network", pa.uint32()),
        ("country", pa.uint16()),
        ("device", pa.uint8()),
        ("flags", pa.uint8()),
        ("value", pa.float64()),
        ("props", pa.string()),
        ("name", _DICTIONARY),
    ]
)

FIXED = struct.Struct("<qQQQdIHBB")
_FIXED_TYPE = np.dtype(
    [
        ("ts", "<i8"),
        ("tenant", "<u8"),
        ("item", "<u8"),
        ("user", "<u8"),
        ("value", "<f8"),
        ("network", "<u4"),
        ("country", "<u2"),
        ("device", "u1"),
        ("flags", "u1"),
    ]
)


class Row(NamedTuple):
    """One event.

    `item` and `user` are uint64; `country` is two ASCII letters packed in a uint16, 0 when unknown; `device` is 0
    unknown, 1 desktop, 2 mobile, 3 tablet, 4 tv, 5 bot; `props` is JSON or empty; `name` is set for items that are no
    ids (see `item_id`).
    """

    ts_ms: int
    kind: str
    tenant: int
    item: int
    user: int
    network: int = 0
    country: int = 0
    device: int = 0
    flags: int = 0
    value: float = 0.0
    props: str = ""
    name: str = ""


class Group(NamedTuple):
    """Rows of one client batch inside a frame: they are dropped where an earlier frame of the partition has the same
    digest."""

    digest: bytes
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame says of itself in its record's headers."""

    producer_id: int
    frame_seq: int
    rows: int
    min_ts_ms: int
    max_ts_ms: int
    groups: tuple[Group, ...] = ()

    def to_record(self) -> list[tuple[str, bytes]]:
        """As headers of a Kafka record."""
        headers = [
            ("schema", SCHEMA_VERSION),
            ("n", b"%d" % self.rows),
            ("min_ts", b"%d" % self.min_ts_ms),
            ("max_ts", b"%d" % self.max_ts_ms),
            ("producer_id", b"%d" % self.producer_id),
            ("frame_seq", b"%d" % self.frame_seq),
        ]
        if self.groups:
            headers.append(("batches", b"".join(_GROUP.pack(*group) for group in self.groups)))
        return headers


_GROUP = struct.Struct("<16sII")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was read and found sound."""

    header: Header
    columns: pa.RecordBatch


class CorruptFrame(Exception):
    """The record is no frame that can be counted; `rows` is what its header claims, 0 when that is unreadable or no frame has as many."""

    def __init__(self, reason: str, rows: int = 0) -> None:
        super().__init__(reason)
        self.rows = rows


def encode(columns: pa.RecordBatch) -> bytes:
    """The record's value: an Arrow stream of one batch, its buffers compressed with LZ4."""
    sink = pa.BufferOutputStream()
    options = _LZ4 if columns.num_rows >= _COMPRESS_ROWS_MIN else _PLAIN
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_batch(columns)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Frame:
    """The frame in a record; raises `CorruptFrame` with the reason on anything that is not exactly one sound frame."""
    header = _header(dict(headers))
    try:
        with pa.ipc.open_stream(value or b"", options=_READ) as reader:
            columns = reader.read_next_batch()
        columns.validate(full=True)
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise CorruptFrame(f"The body is no Arrow stream: {error}", header.rows) from error
    if columns.schema != SCHEMA:
        raise CorruptFrame("The columns are not those of schema 1.", header.rows)
    if columns.num_rows != header.rows:
        raise CorruptFrame(f"The header says {header.rows} rows, the body has {columns.num_rows}.", header.rows)
    if any(columns.column(i).null_count for i in range(columns.num_columns - 1)):
        raise CorruptFrame("A column other than `name` holds nulls.", header.rows)
    if any(columns.column(name).dictionary.null_count for name in ("kind", "name")):
        raise CorruptFrame("A kind or a name that rows may point to is null.", header.rows)
    return Frame(header, columns)


def name_of(headers: Iterable[tuple[str, bytes]]) -> tuple[int, int] | None:
    """(producer, number) of a frame by its headers alone; None where they are no frame's."""
    try:
        header = _header(dict(headers))
    except CorruptFrame:
        return None
    return header.producer_id, header.frame_seq


def _header(record: dict[str, bytes]) -> Header:
    try:
        rows = int(record["n"])
        version = record["schema"]
    except (KeyError, TypeError, ValueError) as error:  # a header's value may be null
        raise CorruptFrame("The headers `n` and `schema` are missing or unreadable.") from error
    if not 0 < rows <= ROWS_MAX:  # before anything that tells of them: whoever keeps books has room for no more
        raise CorruptFrame(f"A frame of {rows!s:.20} rows is not allowed.")
    if version != SCHEMA_VERSION:
        raise CorruptFrame(f"The schema {version!r} is not known here.", rows)
    try:
        groups = tuple(Group(*parts) for parts in _GROUP.iter_unpack(record.get("batches", b"")))
        header = Header(
            int(record["producer_id"]),
            int(record["frame_seq"]),
            rows,
            int(record["min_ts"]),
            int(record["max_ts"]),
            groups,
        )
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise CorruptFrame(f"A header is missing or unreadable: {error}", rows) from error
    if not (0 <= header.producer_id <= _MASK and 0 < header.frame_seq <= _MASK):
        raise CorruptFrame("The frame's name is out of range.", rows)
    if any(group.first + group.rows > rows for group in groups):
        raise CorruptFrame("A batch of the header reaches beyond the rows.", rows)
    return header


def partition_of(tenant: int, user: int, partitions: int) -> int:
    """The partition of a user's rows: all of a user's rows share one, so distinct users add up over partitions."""
    return ((user * _USER_FACTOR + tenant * _TENANT_FACTOR & _MASK) >> 33) % partitions


def partitions_of(
    tenants: npt.NDArray[np.uint64], users: npt.NDArray[np.uint64], partitions: int
) -> npt.NDArray[np.uint64]:
    """`partition_of` for whole columns."""
    mixed = users * np.uint64(_USER_FACTOR) + tenants * np.uint64(_TENANT_FACTOR)
    return (mixed >> np.uint64(33)) % np.uint64(partitions)


def item_id(text: str) -> tuple[int, str]:
    """(item, name) of a caller's text: an id of the platform is itself; other text is hashed and keeps its name.

    Only the canonical decimal form below 2**63 is an id, so that `7` and `007` stay two items.
    """
    if not text:
        return 0, ""
    if (
        text.isascii()
        and text.isdigit()
        and (text[0] != "0" or text == "0")
        and len(text) <= 19
        and int(text) < TOP_BIT
    ):
        return int(text), ""
    return xxhash.xxh3_64_intdigest(text.encode()) | TOP_BIT, text


@dataclass(slots=True)
class Columns:
    """Rows on their way to become one frame."""

    fixed: bytearray = field(default_factory=bytearray)
    kinds: list[str] = field(default_factory=list)
    props: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    size_bytes: int = 0
    """Of the columns before compression."""

    def __len__(self) -> int:
        return len(self.kinds)

    def add(self, fixed: bytes, kind: str, props: str, name: str, text_bytes: int = 0) -> None:
        """Adds a row; `text_bytes` is the encoded length of its texts."""
        self.fixed += fixed
        self.kinds.append(kind)
        self.props.append(props)
        self.names.append(name)
        self.size_bytes += FIXED.size + text_bytes

    def to_batch(self) -> pa.RecordBatch:
        """The columns as one Arrow record batch."""
        fixed = np.frombuffer(self.fixed, _FIXED_TYPE)
        texts = {
            "kind": _dictionary(pa.array(self.kinds, pa.string())),
            "props": pa.array(self.props, pa.string()),
            "name": _dictionary(pa.array([name or None for name in self.names], pa.string())),
        }
        return pa.record_batch(
            [texts[name] if name in texts else pa.array(np.ascontiguousarray(fixed[name])) for name in SCHEMA.names],
            schema=SCHEMA,
        )


def _dictionary(texts: pa.StringArray) -> pa.DictionaryArray:
    encoded = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int16()), encoded.dictionary)


def record_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Columns of rows that are at hand all at once."""
    columns = Columns()
    for row in rows:
        columns.add(pack(row), row.kind, row.props, row.name)
    return columns.to_batch()


def pack(row: Row) -> bytes:
    """The fixed part of a row; raises `struct.error` on a number out of range."""
    ts_ms, _, tenant, item, user, network, country, device, flags, value, _, _ = row
    return FIXED.pack(ts_ms, tenant, item, user, value, network, country, device, flags)
