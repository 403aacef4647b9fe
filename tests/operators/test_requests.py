"""What becomes of a request, against a server on loopback that answers as it is told: no real one throttles or fails on demand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from groundswell.engines import ports
from groundswell_operator.applying.errors import Away, Conflict, NotLeading, Refused, RequestFailed
from groundswell_operator.applying.requests import (
    OPERATOR_WRITES_S_MAX,
    RECORD_WRITES_S_MAX,
    RETRY_S,
    SOURCE_WRITES_S_MAX,
    WRITES_S_MAX,
    Pace,
    Requests,
)


class Server:
    """Answers everything with one status and an empty list, and keeps when it was asked."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self._headers = status, headers
        self.asked_s: list[float] = []

    async def answer(self, _: web.Request) -> web.Response:
        self.asked_s.append(time.monotonic())
        return web.json_response({"message": "as told", "items": []}, status=self.status, headers=self._headers)


@asynccontextmanager
async def serving(
    status: int, headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[Server, aiohttp.ClientSession]]:
    server, port, application = Server(status, headers or {}), ports.draw(1)[0], web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield server, session
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "headers", "error", "retry_s"),
    [
        (409, {}, Conflict, None),
        (429, {"Retry-After": "7"}, Away, 7.0),
        (429, {}, Away, RETRY_S),
        (500, {}, Away, RETRY_S),
        (503, {"Retry-After": "3600"}, Away, 30.0),
        (410, {}, Away, RETRY_S),
        (403, {}, Refused, None),
        (422, {}, Refused, None),
    ],
)
async def test_an_answer_says_whether_to_look_again_to_wait_or_to_leave_it(
    status: int, headers: dict[str, str], error: type[RequestFailed], retry_s: float | None
) -> None:
    async with serving(status, headers) as (_, session):
        with pytest.raises(error, match="as told") as raised:
            await Requests(session, Pace()).merge("/object", {"spec": {}}, "test")
    assert getattr(raised.value, "retry_s", None) == retry_s


async def test_a_server_that_is_not_there_is_away() -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{ports.draw(1)[0]}") as session:
        with pytest.raises(Away):
            await Requests(session, Pace()).get("/object")


SHARES = (OPERATOR_WRITES_S_MAX, RECORD_WRITES_S_MAX, SOURCE_WRITES_S_MAX)


@pytest.mark.parametrize("most", SHARES)
async def test_there_are_no_more_writes_in_any_second_than_ones_share(most: int) -> None:
    async with serving(200) as (server, session):
        requests, began_s = Requests(session, Pace(most)), time.monotonic()
        for _ in range(2 * most + 1):
            await requests.merge("/object", {"spec": {}}, "test")
        assert time.monotonic() - began_s >= 2
    assert len(server.asked_s) == 2 * most + 1


def test_operator_and_bridge_together_write_twenty_times_in_any_second_at_most() -> None:
    assert sum(SHARES) <= WRITES_S_MAX == 20


@pytest.mark.promise("OPERATOR-9")
async def test_who_does_not_lead_reads_and_writes_nothing() -> None:
    async with serving(200) as (server, session):
        requests = Requests(session, Pace(), lambda: 0.0)
        await requests.get("/object")
        with pytest.raises(NotLeading):
            await requests.merge("/object", {"spec": {}}, "test")
    assert len(server.asked_s) == 1


@pytest.mark.parametrize(("status", "lands"), [(500, True), (504, True), (429, False), (409, False), (200, False)])
async def test_a_write_whose_answer_does_not_say_what_became_of_it_may_land(status: int, lands: bool) -> None:
    async with serving(status) as (_, session):
        requests = Requests(session, Pace())
        with suppress(RequestFailed):
            await requests.merge("/object", {}, "test")
        assert requests.may_land() is lands
