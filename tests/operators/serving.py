"""A server on loopback that answers as a test tells it: no real API server throttles, fails or changes its mind on demand."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
from aiohttp import web

from groundswell.engines import ports
from groundswell_operator.applying.requests import Pace, Requests


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    value: Any
    query: Mapping[str, str] = field(default_factory=dict)


Answer = tuple[int, Any]
Answering = Callable[[Asked], Answer]
Streaming = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Server:
    """Keeps what it was asked."""

    answering: Answering
    streaming: Streaming | None = None
    """Answers who wants to be told of changes."""
    asked: list[Asked] = field(default_factory=list)
    ahead_s: float = 0.0
    """Of this machine's clock."""
    address: str = ""

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.streaming is not None and request.query.get("watch"):
            return await self.streaming(request)
        text = await request.text()
        self.asked.append(Asked(request.method, request.path, json.loads(text) if text else None, request.query))
        status, value = self.answering(self.asked[-1])
        return web.json_response(value, status=status, headers={"Date": formatdate(self.now_s(), usegmt=True)})

    def written(self) -> list[Asked]:
        """What was not only read."""
        return [each for each in self.asked if each.method != "GET"]


@asynccontextmanager
async def answering(answers: Answering, streaming: Streaming | None = None) -> AsyncIterator[tuple[Server, Requests]]:
    """A server, and requests to it at a pace of their own."""
    server, port, application = Server(answers, streaming), ports.draw(1)[0], web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.address = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(server.address) as session:
            yield server, Requests(session, Pace())
    finally:
        await runner.cleanup()
