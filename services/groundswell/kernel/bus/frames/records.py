"""The records of the journal as bytes: `length, crc32, body`; the kinds of bodies are listed in `journal`."""

import struct
import zlib
from collections.abc import Iterator

from groundswell.kernel import errors
from groundswell.kernel.bus.frames import codec

ROW_KIND, GROUP_KIND, COLUMNS_KIND = b"R", b"G", b"C"
"""The kinds of records that hold rows."""

HEAD = struct.Struct("<II")
PARTITION = struct.Struct("<H")
"""What a row begins with."""
ROW = struct.Struct("<HBHH")
BORDER = struct.Struct("<HQQI")
COLUMNS = struct.Struct("<HQQIqq")
ACK = struct.Struct("<HQ")
PLACE = struct.Struct("<QQ")
BATCH = struct.Struct("<16sI")
ROW_PREFIX = ROW.size + codec.FIXED.size

_crc32, _head = zlib.crc32, HEAD.unpack_from


def framed(body: bytes) -> bytes:
    """The record with this body."""
    return HEAD.pack(len(body), _crc32(body)) + body


def sound(content: bytes) -> Iterator[tuple[memoryview, int]]:
    """(body, end) of each sound record, up to the first that is not."""
    view, at, size = memoryview(content), 0, len(content)
    while (begin := at + HEAD.size) <= size:
        length, checksum = _head(view, at)
        end = begin + length
        body = view[begin:end]
        if length == 0 or end > size or _crc32(body) != checksum:
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
