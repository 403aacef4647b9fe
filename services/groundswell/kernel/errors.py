"""Everything that can go wrong, as one small hierarchy with two edges.

Services raise these (or subclass them); the RPC server turns them into a gRPC status with ErrorInfo, and the consumer loop
turns the same types into "try again" or "dead letter". A message tells the caller what to do next and never holds internals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

MESSAGE_LENGTH_MAX = 500
"""Characters of what is said to a caller: it may quote the caller, and has to pass through headers, of which gRPC takes 16 KB."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: `field` is its path as the caller wrote it (`link.destination`), `description` what is allowed."""

    field: str
    description: str


class Error(Exception):
    """A failure with a meaning for the caller.

    `reason` (UPPER_SNAKE) is stable and part of the API; it comes from the class name unless a subclass sets it.
    """

    reason: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        fields: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = shortened(message)
        self.fields = (FieldViolation(field, self.message),) if field else tuple(fields)
        self.retry_after_s = retry_after_s

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "reason" not in cls.__dict__:
            words = "".join(f"_{c}" if c.isupper() else c for c in cls.__name__).strip("_")
            cls.reason = words.upper()


def shortened(text: str, length_max: int = MESSAGE_LENGTH_MAX) -> str:
    """`text` itself, or its beginning with an ellipsis."""
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


class Invalid(Error):
    """The request can never succeed as it is (400)."""


class Unprocessable(Invalid):
    """Well formed, but a rule of the domain refuses it (422)."""


class Unauthenticated(Error):
    """No credential, or one that is not good (401)."""


class Denied(Error):
    """The credential does not allow this (403)."""


class NotFound(Error):
    """Absent, or not the caller's to see; the two are the same to the caller (404)."""


class Gone(NotFound):
    """It was there and is not coming back (410)."""


class AlreadyExists(Error):
    """Somebody has it already (409)."""


class Conflict(Error):
    """A concurrent change won; read again, then retry (409)."""

    retryable = True


class FailedPrecondition(Error):
    """The state of the resource forbids this now (400, or 412 when a precondition header was sent)."""


class Exhausted(Error):
    """A limit or quota is reached; try again after `retry_after_s` seconds (429)."""

    retryable = True


class Unavailable(Error):
    """Something that this needs is down; try again after `retry_after_s` seconds (503)."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Stopping(Unavailable):
    """This process was told to stop and takes its streams along."""

    reason = "UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("This process is stopping. Connect again.")


class Unreachable(Unavailable):
    """No process answers where one should: it may be starting again. To callers outside it is as `Unavailable` as anything else."""

    reason = "UNAVAILABLE"


class Unsent(Unreachable):
    """There was no process to ask: the request has reached nobody, so whoever asks again repeats nothing."""

    reason = "UNAVAILABLE"


class DeadlineExceeded(Error):
    """The time the caller gave is over (504)."""

    retryable = True
