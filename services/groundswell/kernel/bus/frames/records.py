"""The records of the journal as bytes: `length, crc32, body`; the kinds of bodies are listed in `journal`."""

import struct
import zlib
from collections.abc import Iterator

from groundswell.kernel import errors
from groundswell.kernel.bus.frames import codec

HEAD = struct.Struct("<II")
ROW = struct.Struct("<HBHH")
BORDER = struct.Struct("<HQQI")
COLUMNS = struct.Struct("<HQQIqq")
ACK = struct.Struct("<HQ")
PLACE = struct.Struct("<QQ")
BATCH = struct.Struct("<16sI")
ROW_PREFIX = ROW.size + codec.FIXED.size

_crc32 = zlib.crc32


def framed(body: bytes) -> bytes:
    """The record with this body."""
    return HEAD.pack(len(body), _crc32(body)) + body


def sound(content: bytes) -> Iterator[tuple[memoryview, int]]:
    """(body, end) of each sound record, up to the first that is not."""
    view, at = memoryview(content), 0
    while at + HEAD.size <= len(content):
        length, checksum = HEAD.unpack_from(view, at)
        end = at + HEAD.size + length
        body = view[at + HEAD.size : end]
        if length == 0 or end > len(content) or _crc32(body) != checksum:
            return
        yield body, end
        at = end


def pack_row(partition: int, row: codec.Row) -> tuple[bytes, bytes, int]:
    """(record's bytes, fixed part, bytes of the texts) of a row; raises `Invalid` when a field is out of its bounds."""
    ts_ms, kind, tenant, item, user, network, country, device, flags, value, props, name = row
    try:
        fixed = codec.FIXED.pack(ts_ms, tenant, item, user, value, network, country, device, flags)
        kind_bytes = kind.encode()
        props_bytes = props.encode() if props else b""
        name_bytes = name.encode() if name else b""
        kind_size, props_size, name_size = len(kind_bytes), len(props_bytes), len(name_bytes)
        head = ROW.pack(partition, kind_size, props_size, name_size)
    except (struct.error, UnicodeEncodeError) as error:
        raise errors.Invalid(f"A row of telemetry is out of bounds: {error}.") from error
    if kind_size > codec.KIND_BYTES_MAX or props_size > codec.PROPS_BYTES_MAX or name_size > codec.NAME_BYTES_MAX:
        raise errors.Invalid(
            f"A row's kind may take {codec.KIND_BYTES_MAX} bytes, its properties {codec.PROPS_BYTES_MAX} and its name "
            f"{codec.NAME_BYTES_MAX}."
        )
    return head + fixed + kind_bytes + props_bytes + name_bytes, fixed, kind_size + props_size + name_size
