"""What the door answers by itself: its health, the document of the API, and the files of the console."""

from collections.abc import Callable, Mapping

from groundswell.gateway import errors
from groundswell.gateway.http import console, rendering, replies
from groundswell.gateway.http.exchange import Exchange
from groundswell.gateway.http.requests import Request
from groundswell.gateway.http.routes import methods_with_implied

OPENAPI = b"/openapi.json"
_HEALTH = frozenset({b"/healthz", b"/readyz", b"/health"})


class Own:
    """Answers that are in memory since the start. `draining` tells whether the process is about to end."""

    def __init__(self, openapi: bytes, files: Mapping[bytes, console.File], draining: Callable[[], bool]) -> None:
        self._openapi = openapi
        self._files = files
        self._draining = draining

    def is_health(self, request: Request) -> bool:
        """Whether it asks for the process's health, on whatever host."""
        return request.raw_path in _HEALTH

    def has(self, request: Request) -> bool:
        """Whether its path is the document's or a file's."""
        return request.raw_path == OPENAPI or request.raw_path in self._files

    async def answer(self, exchange: Exchange) -> None:
        """Answers what it `has`; raises `MethodNotAllowed`."""
        file = self._files.get(exchange.request.raw_path)
        if file is None:
            await _answer(exchange, 200, self._openapi, b"application/json")
            return
        _require_get(exchange.request)
        if replies.matches(exchange.request, file.etag):
            await exchange.reply(304, file.headers, b"")
        else:
            await exchange.reply(200, file.headers, file.body)

    async def answer_health(self, exchange: Exchange) -> None:
        """Answers one that `is_health`; raises `MethodNotAllowed`."""
        path = exchange.request.raw_path
        if path == b"/health":
            await _answer(exchange, 200, b"OK", b"text/plain")
        elif path == b"/readyz" and self._draining():
            await _answer(exchange, 503, b'{"status":"draining"}', b"application/json")
        else:
            await _answer(exchange, 200, b'{"status":"ok"}', b"application/json")


async def _answer(exchange: Exchange, status: int, body: bytes, media_type: bytes) -> None:
    _require_get(exchange.request)
    await exchange.reply(status, [(b"content-type", media_type), rendering.NO_STORE, rendering.NOSNIFF], body)


def _require_get(request: Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise errors.MethodNotAllowed(methods_with_implied({"GET"}))
