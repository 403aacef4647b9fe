"""A port in front of the API server that passes requests on and spoils some of them, as an overloaded one would, or keeps one for as long
as a test wants.

It stands between one client and the real API server; it answers nothing of its own but refusals.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from tests.cluster.control_plane.certificates import Authority

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
BODY_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """What a spoiled request gets."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    carried_out: bool = False
    """Whether the API server has done it all the same."""
    writes_only: bool = False

    def answer(self) -> web.Response:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": self.reason, "code": self.status}
        return web.json_response(body, status=self.status, headers=self.headers)


TOO_MANY = Fault(429, "TooManyRequests", {"Retry-After": "1"})
FAILING = Fault(500, "InternalError")
LOST_ANSWER = Fault(500, "InternalError", carried_out=True)
CONFLICTING = Fault(409, "Conflict", writes_only=True)


class Storm:
    """Spoils requests while hits are left."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession, seed: int, part: float) -> None:
        """`part` of the requests are hit."""
        self._upstream, self._session = upstream, session
        self._chance, self._part = random.Random(seed), part
        self._faults: list[Fault] = []
        self.spoiled: list[Fault] = []
        self._kept: Callable[[web.Request], bool] = lambda _: False
        self._goes_on = asyncio.Event()
        self.keeps = asyncio.Event()
        """Set once a request is kept."""
        self.landed: list[int] = []
        """What the API server answered to it, though nobody may have waited for that."""

    def keeps_one(self, kept: Callable[[web.Request], bool]) -> None:
        """The next such request does not get further until it `lets_it_go`, as in a network that is slow to die."""
        self._kept = kept

    def lets_it_go(self) -> None:
        self._goes_on.set()

    def comes(self, *faults: Fault) -> None:
        """So many requests will be hit, one after the other; the Lease's only where it costs no leadership."""
        self._faults.extend(faults)

    async def passed(self, request: web.Request) -> web.StreamResponse:
        body, fault, was_kept = await request.read(), self._hit(request), self._kept(request)
        if was_kept:
            self._kept = lambda _: False
            self.keeps.set()
            await self._goes_on.wait()
        if fault and not fault.carried_out:
            return fault.answer()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            if was_kept:
                self.landed.append(answer.status)
            if fault:
                await answer.read()
                return fault.answer()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    def _hit(self, request: web.Request) -> Fault | None:
        if not self._faults or self._chance.random() >= self._part or "watch=true" in request.query_string:
            return None
        if self._faults[0].writes_only and (request.method == "GET" or "/leases" in request.path):
            return None  # a conflict on the Lease says that somebody else leads, and nobody does
        self.spoiled.append(self._faults.pop(0))
        return self.spoiled[-1]


@asynccontextmanager
async def raging(
    upstream: str, authority: Path, folder: Path, port: int, seed: int, part: float
) -> AsyncIterator[Storm]:
    """The port, with a certificate of `folder`/storm-authority.crt; `authority` is the API server's."""
    pair = Authority(folder, "storm-authority").server("storm")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
        storm = Storm(upstream, session, seed, part)
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", storm.passed)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        try:
            yield storm
        finally:
            await runner.cleanup()
