"""One request and its answer so far: what every step on the way adds to, and the one place from which it leaves."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from groundswell.gateway.http import replies
from groundswell.gateway.http.replies import Header
from groundswell.gateway.http.requests import Request, Send


class Exchange:
    """`extra` are headers that whatever answer comes will have; `route` and `status` are for the metrics."""

    def __init__(self, request: Request, send: Send, extra: list[Header]) -> None:
        self.request = request
        self.extra = extra
        self.route = "none"
        self.status = 0
        self.started = False
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's send, noting that the answer has begun."""
        self.started = True
        await self._send(message)

    async def reply(self, status: int, headers: Sequence[Header], body: bytes, zipped: bytes = b"") -> None:
        """Sends the whole answer; `zipped` is its body as gzip, where that is known."""
        self.status = status
        await replies.send_whole(self.send, self.request, status, [*headers, *self.extra], body, zipped)
