"""The name of one request, so that asking twice has one effect.

`id` is the caller's (`Idempotency-Key`, `request_id`); `digest` is over the method and all other parameters, so that the same id
with other parameters is noticed. The answer is stored in the effect's own transaction (`postgres.Tx.answer`) and kept 24 hours.
"""

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message

from groundswell.kernel import errors

REQUEST_ID_LENGTH_MAX = 255
KEPT_HOURS = 24


class RequestIdReused(errors.Unprocessable):
    def __init__(self) -> None:
        super().__init__(
            "This request id was used with other parameters. Use a new one for a new request.", field="request_id"
        )


class RequestStillRuns(errors.Conflict):
    def __init__(self) -> None:
        super().__init__("The first request with this id still runs. Ask again in a second.", retry_after_s=1.0)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """`id` is empty when the caller gave none: then every call is a new request."""

    id: str = ""
    digest: bytes = b""


def key_of(method: str, request: Message) -> RequestKey:
    """The key of `request`, from its field `request_id` if it has one; raises `Invalid` when that is too long."""
    request_id: str = getattr(request, "request_id", "")
    if not request_id:
        return RequestKey()
    if len(request_id) > REQUEST_ID_LENGTH_MAX:
        raise errors.Invalid(f"A request id has at most {REQUEST_ID_LENGTH_MAX} characters.", field="request_id")
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    body = copy.SerializeToString(deterministic=True)
    return RequestKey(request_id, hashlib.sha256(method.encode() + b"\0" + body).digest())
