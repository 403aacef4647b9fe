"""What the door itself refuses, before any service is asked.

Kernel errors carry the platform's meanings; these few exist only in HTTP and name their own status.
"""

from collections.abc import Sequence
from typing import ClassVar

from groundswell.kernel import errors


class Refusal(errors.Error):
    """A request that HTTP itself refuses, with a status of its own."""

    status: ClassVar[int]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that the answer must carry."""
        return []


class RouteNotFound(errors.NotFound):
    def __init__(self) -> None:
        super().__init__("There is nothing at this path. GET /openapi.json lists what there is.")


class MethodNotAllowed(Refusal):
    status = 405

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This path takes {', '.join(allowed)}.")
        self.allowed = tuple(allowed)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", ", ".join(self.allowed).encode())]


class BodyTooLarge(Refusal):
    status = 413

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"The body may have at most {bytes_max} bytes, also decompressed, and may grow at most tenfold by that."
        )


class TargetTooLong(Refusal):
    status = 414

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"Path and query may have at most {bytes_max} bytes.")


class HeadersTooLarge(Refusal):
    status = 431

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The headers may have at most {bytes_max} bytes.")


class UnsupportedMediaType(Refusal):
    status = 415

    def __init__(self, accepted: str) -> None:
        super().__init__(f"The body must be {accepted}.")


class UnsupportedEncoding(Refusal):
    status = 415

    def __init__(self) -> None:
        super().__init__("The body may be sent as it is or with `Content-Encoding: gzip`.")

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"accept-encoding", b"gzip, identity")]


class BodyTimeout(Refusal):
    status = 408

    def __init__(self) -> None:
        super().__init__("The body stopped arriving. Send the request again.")


class UnknownHost(Refusal):
    status = 421

    def __init__(self) -> None:
        super().__init__("This installation does not serve that host.")


class MalformedRequest(errors.Invalid):
    """The request is no well-formed HTTP, JSON or text; the message says which part."""
