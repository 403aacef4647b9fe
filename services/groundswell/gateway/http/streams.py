"""Server streams over HTTP: server-sent events, or JSON lines for who asks for them.

A reader that falls behind is closed, never buffered for: when one event cannot be handed on within 5 s, the stream ends. An idle
stream sends a comment now and then, so that both sides notice a dead line.
"""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from google.protobuf.message import Message

from groundswell.gateway.http import json_bodies, problems, replies, transcoder
from groundswell.gateway.http.requests import Request, Send
from groundswell.gateway.http.routes import Route
from groundswell.kernel import errors

Header = tuple[bytes, bytes]

BEHIND_S_MAX = 5.0
HEARTBEAT = b":thump\n\n"
EVENT_STREAM = b"text/event-stream"
JSON_LINES = b"application/x-ndjson"


class Streams:
    """The open streams of this process."""

    def __init__(self, heartbeat_s: float, open_max: int) -> None:
        """`heartbeat_s` is how often an idle stream sends its comment, `open_max` how many streams there may be."""
        self._heartbeat_s, self._open_max = heartbeat_s, open_max
        self._open: set[asyncio.Task[None]] = set()
        self._begun = 0
        """Those that are open, and those that still wait for their first answer."""
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(
        self, send: Send, request: Request, route: Route, answers: AsyncIterator[Message], extra: Sequence[Header]
    ) -> None:
        """Sends `answers` until they end, the client leaves or the process drains; raises only before the first byte. `extra` are headers
        that any answer to this request has."""
        if self._begun >= self._open_max:
            raise errors.Unavailable("Too many streams are open. Try again in a second.")
        self._begun += 1
        try:
            await self._serve(send, request, route, answers, extra)
        finally:
            self._begun -= 1

    async def _serve(
        self, send: Send, request: Request, route: Route, answers: AsyncIterator[Message], extra: Sequence[Header]
    ) -> None:
        first = asyncio.ensure_future(anext(answers, None))
        await self._first_or_closing(first)
        writing = asyncio.create_task(_written(send, request, route, answers, first, self._heartbeat_s, extra))
        leaving = asyncio.create_task(_left(request))
        self._open.add(writing)
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving, first):
                task.cancel()
            # Not `leaving`: granian's receive cannot be cancelled, it ends with the connection.
            await asyncio.gather(writing, first, return_exceptions=True)
            self._open.discard(writing)

    async def _first_or_closing(self, first: "Future[Message | None]") -> None:
        """Waits for the first answer, up to a heartbeat; raises what a call that is refused at once raises."""
        closing = asyncio.ensure_future(self._closing.wait())
        either: set[Future[Any]] = {first, closing}
        await asyncio.wait(either, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if self._closing.is_set():
            first.cancel()
            raise errors.Stopping
        if first.done():
            first.result()

    def close(self) -> None:
        """Ends every stream, also those that come late; their clients come back to another process."""
        self._closing.set()
        for writing in self._open:
            writing.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _written(
    send: Send,
    request: Request,
    route: Route,
    answers: AsyncIterator[Message],
    first: "Future[Message | None]",
    heartbeat_s: float,
    extra: Sequence[Header],
) -> None:
    lines = JSON_LINES in request.headers.get(b"accept", b"")
    headers = [
        (b"content-type", JSON_LINES if lines else EVENT_STREAM),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        replies.SERVER,
        (b"x-request-id", request.id),
        *extra,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        made = _chunks(route, answers, first, request, heartbeat_s, lines=lines)
        async with aclosing(made) as chunks:  # type: ignore[type-var]  # it is a generator
            async for chunk in chunks:
                async with asyncio.timeout(BEHIND_S_MAX):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _chunks(
    route: Route,
    answers: AsyncIterator[Message],
    first: "Future[Message | None]",
    request: Request,
    heartbeat_s: float,
    *,
    lines: bool,
) -> AsyncIterator[bytes]:
    coming = first
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=heartbeat_s)
            if not done:
                yield b"\n" if lines else HEARTBEAT
                continue
            message = coming.result()
            if message is None:
                return
            yield _line(route, message) if lines else _event(route, message)
            coming = asyncio.ensure_future(anext(answers, None))
    except errors.Error as error:
        _, _, body = problems.problem(error, f"urn:groundswell:request:{request.id.decode()}")
        yield body + b"\n" if lines else b"event: error\ndata: " + body + b"\n\n"
    finally:
        coming.cancel()


def _line(route: Route, message: Message) -> bytes:
    return transcoder.answer_of(route, message)[0] + b"\n"


def _event(route: Route, message: Message) -> bytes:
    sse = route.edge.sse
    head = b""
    if sse.event_field:
        head += b"event: " + _one_line(transcoder.value_at(message, sse.event_field)) + b"\n"
    if sse.id_field:
        head += b"id: " + _one_line(transcoder.value_at(message, sse.id_field)) + b"\n"
    return head + b"data: " + orjson.dumps(json_bodies.to_json(message)) + b"\n\n"


def _one_line(value: object) -> bytes:
    return str(value).replace("\r", " ").replace("\n", " ").replace("\0", "").encode()
