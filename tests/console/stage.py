"""A gateway reduced to its contract: it serves the built page and feeds it messages that a test writes.

What it sends are the JSON forms of LiveMetrics, Balance, ListUpstreamsResponse and ListLinksResponse, with the gateway's own policy,
so that a page which works here reads the real one too; and it can break on command, which the real one should not.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundswell.gateway.http import console

KEY = "gsk_stage"  # all lower case: header names and values are compared so
Document = dict[str, Any]


@dataclass
class Stage:
    """What the page is told next; a test changes it at any time."""

    files: dict[bytes, console.File]
    metrics: Document = field(default_factory=dict)
    balance: Document = field(default_factory=dict)
    upstreams: Document = field(default_factory=dict)
    links: list[Document] = field(default_factory=list)
    open: bool = True
    """False: streams are cut and new ones get 503."""
    store_away: bool = False
    """True: nobody can read the books."""
    books_late: bool = False
    """True: whoever asks for the books gets the bare words of a call that took too long; the stream still tells what it read before."""
    books_age_s: float = 0.0
    """How long ago the stream's books were read."""
    complete_s: float | None = None
    """When the counters were last complete; None: they are now."""
    key: str = KEY
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def told(self) -> bytes:
        """One event of the stream, of now."""
        now, read = rfc3339(time.time()), rfc3339(time.time() - self.books_age_s)
        complete = now if self.complete_s is None else rfc3339(self.complete_s)
        document = {"time": now, "completeTime": complete, **self.metrics}
        if not self.store_away:
            document["balanceTime"] = read
        return b"data: " + json.dumps(document).encode() + b"\n\n"

    def answer(self, path: str) -> Document | None:
        """The document at `path`, without the query."""
        if path.startswith("/v1/links/"):
            return next((link for link in self.links if path == f"/v1/{link['name']}"), None)
        documents = {
            **({} if self.store_away else {"/v1/analytics/balance": {"time": rfc3339(time.time()), **self.balance}}),
            "/v1/edge/upstreams": self.upstreams,
            "/v1/links": {"links": self.links},
        }
        return documents.get(path)


def rfc3339(seconds: float) -> str:
    """A moment as protobuf's JSON writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


@asynccontextmanager
async def served(dist: Path) -> AsyncIterator[Stage]:
    """A stage on a free port of the loopback."""
    stage = Stage(console.load(dist))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(stage, await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stage.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stage
    finally:
        stage.open = False
        server.close()


async def _answer(stage: Stage, head: bytes, writer: asyncio.StreamWriter) -> None:
    path = head.split(b" ", 2)[1].split(b"?")[0]
    stage.asked.append(path.decode())
    if file := stage.files.get(path):
        await _send(writer, 200, file.body, file.headers)
    elif f"authorization: bearer {stage.key}".encode() not in head.lower().splitlines():
        await _send_problem(writer, 401, "The API key is unknown or has expired.")
    elif path == b"/v1/metrics:watch":
        await _stream(stage, writer)
    elif path == b"/v1/analytics/balance" and stage.books_late:
        await _send_problem(writer, 504, "Deadline Exceeded")
    elif (document := stage.answer(path.decode())) is not None:
        await _send(writer, 200, json.dumps(document).encode(), ((b"content-type", b"application/json"),))
    else:
        await _send_problem(writer, 404, "There is no such thing.")


async def _stream(stage: Stage, writer: asyncio.StreamWriter) -> None:
    if not stage.open:
        await _send_problem(writer, 503, "Analytics does not answer.")
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    while stage.open:
        writer.write(stage.told())
        await writer.drain()
        await asyncio.sleep(0.25)


async def _send_problem(writer: asyncio.StreamWriter, status: int, detail: str) -> None:
    body = json.dumps({"title": "Refused", "status": status, "detail": detail}).encode()
    await _send(writer, status, body, ((b"content-type", b"application/problem+json"),))


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    lines = [b"HTTP/1.1 %d Answer" % status, b"content-length: %d" % len(body), b"connection: close"]
    lines += [name + b": " + value for name, value in headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    await writer.drain()
