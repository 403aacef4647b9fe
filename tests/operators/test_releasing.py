"""A release while the API server is away: against a server on loopback, since no real one goes and comes back on demand."""

from __future__ import annotations

import time

import aiohttp
from aiohttp import web

from groundswell.engines import ports
from groundswell_operator.applying.reading import FINALIZER
from groundswell_operator.applying.requests import Pace, Requests
from groundswell_operator.leading import LEASE
from groundswell_operator.releasing import Release

AWAY_S, UNLED_S = 3.0, 2.0


class Server:
    """Has a deleted spike that an operator holds, and a Lease that nobody renews; it is away from its first answer on, for a while."""

    def __init__(self) -> None:
        self.back_s: float | None = None
        self.let_go_s: float | None = None

    async def answer(self, request: web.Request) -> web.Response:
        now_s = time.monotonic()
        if self.back_s and now_s < self.back_s:
            return web.json_response({"message": "away"}, status=503)
        if request.method == "PATCH":
            self.let_go_s = now_s
        if request.path.endswith(LEASE):
            return web.json_response({"spec": {"holderIdentity": "one", "renewTime": "then"}})
        self.back_s = self.back_s or now_s + AWAY_S
        metadata = {"name": "vs-a", "resourceVersion": "1", "deletionTimestamp": "then", "finalizers": [FINALIZER]}
        return web.json_response({"items": [] if self.let_go_s else [{"metadata": metadata}]})


async def test_an_operator_that_could_not_be_heard_of_gets_its_time_once_the_api_server_is_back() -> None:
    server, port, application = Server(), ports.draw(1)[0], web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            assert await Release(Requests(session, Pace()), "here", "", unled_s=UNLED_S).run()
    finally:
        await runner.cleanup()
    assert server.back_s is not None
    assert server.let_go_s is not None
    assert server.let_go_s - server.back_s >= UNLED_S
