"""Times in messages: gRPC carries any 64-bit second, of which JSON and the databases can tell ten thousand years."""

from typing import cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from groundswell.kernel import errors

_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800
"""The first second of the years 1 and 10000."""


def moment_ms(message: Message, name: str, prefix: str = "") -> int | None:
    """The time in the field `name` in milliseconds since 1970, None when it is not set.

    Raises `Invalid` for a time outside the years 1 to 9999, with the field's path under `prefix` (`link.`).
    """
    if not message.HasField(name):
        return None
    moment = cast(Timestamp, getattr(message, name))
    if not _FIRST_S <= moment.seconds < _END_S or not 0 <= moment.nanos < 1_000_000_000:
        raise errors.Invalid(f"{prefix}{name} must be a time in the years 1 to 9999.", field=prefix + name)
    return moment.ToMilliseconds()
