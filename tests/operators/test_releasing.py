"""A release while the API server is away, or has spikes by the hundred: against a server on loopback, since no real one goes and comes back
on demand."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from groundswell.engines import ports
from groundswell_operator.applying.reading import FINALIZER
from groundswell_operator.applying.requests import Pace, Requests
from groundswell_operator.leading import LEASE
from groundswell_operator.releasing import Release
from tests.operators.serving import Answer, Asked, answering

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
        raised = {"metadata": metadata, "status": {"phase": "Holding"}}
        return web.json_response({"items": [] if self.let_go_s else [raised]})


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


class Spikes:
    """Keeps spikes, with an operator that renews its Lease; what it holds it gives back at once, unless it is `stuck`."""

    def __init__(self, *spikes: dict[str, Any], stuck: bool = False) -> None:
        self.left = {each["metadata"]["name"]: each for each in spikes}
        self.ended: list[str] = []
        """What was deleted or let go, in this order."""
        self.conflicting = ""
        self._stuck = stuck
        self._renewed = 0

    def answer(self, asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        if name == LEASE:
            self._renewed += 1
            return 200, {"spec": {"holderIdentity": "one", "renewTime": str(self._renewed)}}
        if asked.method == "GET":
            return 200, {"items": list(self.left.values())}
        if name == self.conflicting:
            return 409, {"message": "it has changed"}
        self.ended.append(name)
        spike = self.left[name]
        if asked.method == "DELETE" and self._stuck and spike["metadata"]["finalizers"]:
            spike["metadata"]["deletionTimestamp"] = "then"
        elif asked.method == "PATCH" and "deletionTimestamp" not in spike["metadata"]:
            spike["metadata"]["finalizers"] = asked.value["metadata"]["finalizers"]
        else:
            del self.left[name]
        return 200, spike


def kept(name: str, phase: str, held: bool = False) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": "1", "finalizers": [FINALIZER] if held else []}
    return {"metadata": metadata, "status": {"phase": phase}}


@pytest.mark.promise("OPERATOR-12")
async def test_what_holds_something_is_given_back_before_what_only_waits_and_what_is_over_stays() -> None:
    over = [kept(f"over-{number}", phase) for number, phase in enumerate(["Restored", "Rejected"] * 50)]
    spikes = Spikes(
        *over,
        kept("waits", "Pending"),
        kept("new", ""),
        kept("told", "Restored", held=True),
        kept("raised", "Holding", held=True),
    )
    async with answering(spikes.answer) as (_, requests):
        assert await Release(requests, "here", "").run()
    assert spikes.ended[:2] == ["raised", "told"]
    assert set(spikes.ended) == {"raised", "told", "waits", "new"}
    assert len(spikes.left) == len(over) + 1, "what was told of stays, as a record"
    assert not [each for each in spikes.left.values() if each["metadata"]["finalizers"]], (
        "nobody is left to take one away"
    )


async def test_however_many_spikes_there_are_what_is_not_given_back_is_let_go_in_time() -> None:
    """Deleting all of them takes longer, at twenty writes a second, than the release has."""
    waiting = [kept(f"waits-{number}", "Pending") for number in range(200)]
    spikes = Spikes(*waiting, kept("raised", "Holding", held=True), stuck=True)
    async with answering(spikes.answer) as (_, requests):
        assert not await Release(requests, "here", "", patience_s=1, end_s=4, look_s_max=0.5).run()
    assert spikes.ended.count("raised") == 2, "deleted, and let go"
    assert spikes.left


async def test_what_only_waits_with_the_finalizer_is_let_go_as_soon_as_it_is_deleted() -> None:
    """No operator has anything to give back for it, and there may be hundreds."""
    spikes = Spikes(kept("waits", "Pending", held=True), kept("new", "", held=True), stuck=True)
    async with answering(spikes.answer) as (_, requests):
        assert await Release(requests, "here", "", end_s=10).run()
    assert not spikes.left


async def test_one_spike_that_others_write_all_the_time_keeps_none_of_the_rest() -> None:
    spikes = Spikes(kept("busy", "Holding", held=True), kept("raised", "Holding", held=True), kept("waits", "Pending"))
    spikes.conflicting = "busy"
    async with answering(spikes.answer) as (_, requests):
        assert not await Release(requests, "here", "", end_s=1).run()
    assert spikes.ended == ["raised", "waits"]
