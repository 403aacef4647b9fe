"""The operations port of a process: `/healthz` (alive), `/readyz` (may take work), `/metrics` (Prometheus).

It is a port of its own, so that probes and scrapes never compete with work or show at the public door. Written on asyncio's own
streams: one small GET per connection does not want a web framework.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
import prometheus_client

REQUEST_BYTES_MAX = 8_192
REQUEST_S_MAX = 5.0


class Readiness:
    """Whether the process may take work: opened once with the checks of its modules, closed for good by `drain`."""

    def __init__(self) -> None:
        self._checks: Mapping[str, Callable[[], bool]] = {}
        self._state = "starting"

    def open(self, checks: Mapping[str, Callable[[], bool]]) -> None:
        """All parts are up; from now on the checks decide."""
        self._checks, self._state = checks, "running"

    def drain(self) -> None:
        """Not ready from now on."""
        self._state = "draining"

    def report(self) -> tuple[bool, dict[str, object]]:
        """Ready or not, and why: the state and every check that fails."""
        failing = sorted(name for name, check in self._checks.items() if not check())
        return self._state == "running" and not failing, {"state": self._state, "failing": failing}


@asynccontextmanager
async def serve(readiness: Readiness, address: str) -> AsyncIterator[None]:
    """Serves the operations port at `host:port`; an empty address serves nothing."""
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head.split(b" ", 2)[1].decode("latin-1"), readiness))
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError, IndexError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, int(port), limit=REQUEST_BYTES_MAX)
    async with server:
        yield


def _response(path: str, readiness: Readiness) -> bytes:
    match path.partition("?")[0]:
        case "/healthz":
            return _http(200, b'{"status":"ok"}', "application/json")
        case "/readyz":
            ready, report = readiness.report()
            return _http(200 if ready else 503, orjson.dumps(report), "application/json")
        case "/metrics":
            return _http(200, prometheus_client.generate_latest(), "text/plain; version=0.0.4; charset=utf-8")
    return _http(404, b'{"status":"unknown path"}', "application/json")


def _http(status: int, body: bytes, media_type: str) -> bytes:
    phrase = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
