"""Times in messages: gRPC carries any 64-bit second, of which JSON and the databases can tell ten thousand years."""

from typing import cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from groundswell.kernel import errors


def moment_ms(message: Message, name: str, prefix: str = "") -> int | None:
    """The time in the field `name` in milliseconds since 1970, None when it is not set.

    Raises `Invalid` for a time outside the years 1 to 9999, with the field's path under `prefix` (`link.`).
    """
    if not message.HasField(name):
        return None
    try:
        return cast(Timestamp, getattr(message, name)).ToMilliseconds()
    except ValueError as error:
        raise errors.Invalid(f"{prefix}{name} must be a time in the years 1 to 9999.", field=prefix + name) from error
