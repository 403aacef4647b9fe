"""One keep-alive HTTP/1.1 connection with one request in flight.

Only what a redirect needs is parsed: the status, the `Groundswell-View` header and the length of the body. An answer
whose end can not be known closes the connection behind it.
"""

import asyncio
from typing import Protocol, cast

ANSWER_BYTES_MAX = 256 * 1024


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def answered(self, connection: "Connection", arrival: int, status: int, view: bytes) -> None: ...

    def ready(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection", arrival: int | None) -> None: ...


class Connection(asyncio.Protocol):
    """Sends one request at a time and reports its answer, or that the connection went away without one."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.arrival: int | None = None
        self.sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of asyncio's
        self._owner.ready(self)

    def send(self, arrival: int, request: bytes, now_s: float) -> None:
        """Writes the request; from here on it has an outcome: an answer, or unknown."""
        assert self._transport is not None
        assert self.arrival is None
        self.arrival, self.sent_s = arrival, now_s
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self.arrival is None:
            if len(self._received) > ANSWER_BYTES_MAX or self.arrival is None:
                self.abort()
            return
        head = self._received[:end].lower()
        length = _header(head, b"content-length")
        status = int(head[9:12])
        body = int(length) if length.isdigit() else 0
        if len(self._received) < end + 4 + body:
            return
        is_reusable = (length.isdigit() or status in (204, 304)) and _header(head, b"connection") != b"close"
        arrival, self.arrival, self._received = self.arrival, None, b""
        self._owner.answered(self, arrival, status, _header(head, b"groundswell-view"))
        if is_reusable:
            self._owner.ready(self)
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        arrival, self.arrival = self.arrival, None
        self._owner.lost(self, arrival)


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header in a lower-cased head; empty when absent."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
