"""Writes of who led before that land, or are answered, after somebody else has taken over."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from groundswell.engines import ports
from groundswell_operator.applying.errors import Away, Conflict, NotLeading, RequestFailed
from groundswell_operator.applying.requests import LANDS_S_MAX, REQUEST_S_MAX, Pace, Requests
from groundswell_operator.leading import Lease
from groundswell_operator.planning.raising import SetScale
from groundswell_operator.reconciling import Reconciler
from groundswell_operator.saga.deciding import GIVE_UP_S
from groundswell_operator.saga.state import Governing
from groundswell_operator.saga.steps import SetKeys, Step, Write
from tests.operators.passing import BEFORE, METRICS, bounds, flags, raised
from tests.operators.serving import answering
from tests.operators.test_leading import Store
from tests.operators.world import VALUES, WEB, World, governing, telling


class Late:
    """Who leads after a crash between what was recorded and what was to be written: the first writes are sent, and have not landed."""

    def __init__(self, knows: bool = True, policy: Governing | None = None) -> None:
        self.world = raised(World(policy or telling()))
        self.sent: list[Step] = []
        self.began_s = math.inf
        late = (lambda: self.world.clock() - self.began_s < LANDS_S_MAX) if knows else (lambda: False)
        self.second = Reconciler(self.world, METRICS, self.world.clock, late)

    async def taken_over(self, is_late: Callable[[Write | SetKeys], bool] = lambda _: True) -> None:
        def fails(step: Step) -> RequestFailed | None:
            if not isinstance(step, Write | SetKeys) or not is_late(step):
                return None
            self.sent.append(step)
            return Away("it was sent, and nobody waits for the answer", 0.01)

        self.world.fails = fails
        first = Reconciler(self.world, METRICS, self.world.clock)
        await first.reconcile()
        await first.settled()
        self.world.fails = lambda _: None
        self.began_s = self.world.clock()

    async def runs(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.now_s += 1
            self.world.turn()
            await self.second.reconcile()

    async def lands(self) -> None:
        for step in self.sent:
            await self.world.perform(step, self.world.state, self.world.clock())


@pytest.mark.promise("OPERATOR-9")
async def test_a_write_of_who_led_before_that_lands_after_its_spike_is_deleted_is_given_back() -> None:
    """Nothing was to be given back, so nothing that the new leader did made the version another one that the write names."""
    late = Late()
    await late.taken_over()
    late.world.delete("a")
    await late.runs(20)
    assert late.world.state.spikes, "it is not let go"
    await late.lands()
    assert bounds(late.world)["web"][1] == 17
    assert flags(late.world)["ttl"] == "60"
    await late.runs(3)
    assert not late.world.state.spikes
    assert (bounds(late.world), flags(late.world)) == (BEFORE, VALUES)


async def test_who_did_not_know_of_it_would_leave_what_lands_to_nobody() -> None:
    """The control: so it is where a process takes itself for the only one that ever wrote."""
    late = Late(knows=False)
    await late.taken_over()
    late.world.delete("a")
    await late.runs(20)
    assert not late.world.state.spikes
    await late.lands()
    await late.runs(20)
    assert bounds(late.world)["web"][1] == 17


@pytest.mark.promise("OPERATOR-9")
async def test_a_scale_that_lands_after_its_floor_was_given_back_is_taken_back_by_the_autoscaler() -> None:
    """As the pods of every return are: under an autoscaler the operator gives back the floor, and the rest follows. So nobody waits for a
    late scale, though the floor that was written says nothing of the target's own version."""
    found = governing()
    scales = [each for each in found.policy.scales if each.target == WEB]
    policy = dataclasses.replace(found, policy=dataclasses.replace(found.policy, scales=scales))
    late = Late(policy=policy)
    await late.taken_over(lambda step: isinstance(step, Write) and isinstance(step.change, SetScale))
    assert bounds(late.world)["web"] == (3, 30, 30)
    late.world.delete("a")
    for _ in range(2):  # what has been written counts from the next pass on
        late.world.now_s += 1
        await late.second.reconcile()
    assert not late.world.state.spikes
    await late.lands()
    assert bounds(late.world)["web"] == (30, *BEFORE["web"][1:])
    late.world.turn()
    assert bounds(late.world) == BEFORE


async def test_what_never_lands_is_waited_for_no_longer_than_it_could() -> None:
    late = Late()
    await late.taken_over()
    late.world.delete("a")
    await late.runs(int(LANDS_S_MAX) + 2)
    assert not late.world.state.spikes
    assert bounds(late.world) == BEFORE


async def test_a_spike_that_is_deleted_for_five_minutes_is_waited_for_by_nobody() -> None:
    late = Late()
    await late.taken_over()
    late.world.delete("a")
    late.world.now_s += GIVE_UP_S
    late.began_s = late.world.clock()
    await late.runs(2)
    assert not late.world.state.spikes


async def test_what_was_written_by_who_leads_now_is_waited_for_by_nobody_since_nothing_that_was_sent_before_lands() -> (
    None
):
    late = Late()
    await late.taken_over()
    await late.runs(5)
    assert bounds(late.world)["web"] == (30, 30, 30)
    for step in late.sent:
        with pytest.raises(Conflict):
            await late.world.perform(step, late.world.state, late.world.clock())
    late.world.delete("a")
    await late.runs(3)
    assert not late.world.state.spikes
    assert bounds(late.world) == BEFORE


@pytest.mark.parametrize(("holder", "late"), [("another", True), ("one", True), ("", False), (None, False)])
async def test_who_takes_a_lease_that_nobody_has_given_back_knows_that_a_write_may_be_late(
    holder: str | None, late: bool
) -> None:
    """It may be one of its own last life, too."""
    store = Store()
    if holder is not None:
        store.lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": holder, "renewTime": "then"}}
    async with answering(store.answer) as (_, requests):
        lease = Lease(requests, "here", "one", takeover_s=0.1)
        assert not lease.may_be_late()
        async with asyncio.timeout(20):
            await lease.acquire()
        assert lease.may_be_late() is late


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Event]]:
    """An API server that answers nothing, and whether it was asked."""
    asked, ended, port, application = asyncio.Event(), asyncio.Event(), ports.draw(1)[0], web.Application()

    async def answer(_: web.Request) -> web.Response:
        asked.set()
        await ended.wait()
        return web.json_response({})

    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session, asked
    finally:
        ended.set()
        await runner.cleanup()


async def test_who_sees_a_lease_vanish_that_somebody_held_knows_that_a_write_may_be_late() -> None:
    """Whoever deletes it ends the leader, and takes back nothing of what that has sent."""
    store = Store()
    store.lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "another", "renewTime": "then"}}
    async with answering(store.answer) as (server, requests):
        lease = Lease(requests, "here", "one")
        waiting = asyncio.create_task(lease.acquire())
        async with asyncio.timeout(20):
            while not server.asked:
                await asyncio.sleep(0.01)
            store.lease = {}
            await waiting
        assert lease.may_be_late()


@pytest.mark.promise("OPERATOR-9")
async def test_a_lease_is_not_given_back_while_a_write_that_was_cut_off_may_land() -> None:
    """So whoever leads next knows of it. What was not sent keeps nobody waiting."""
    store = Store()
    async with answering(store.answer) as (_, requests), silent() as (session, asked):
        lease = Lease(requests, "here", "one")
        await lease.acquire()
        writes = Requests(session, Pace(), lease.left_s)
        writing = asyncio.create_task(writes.merge("/object", {}, "test"))
        await asked.wait()
        assert not writes.may_land()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writes.may_land()
        await lease.release(writes.may_land())
        assert not lease.leads()
        assert store.holder() == "one"
        another = Lease(requests, "here", "another", takeover_s=0.1)
        await another.acquire()
        assert another.may_be_late()
        answered = Requests(session, Pace(), lambda: 0.0)
        with pytest.raises(NotLeading):
            await answered.merge("/object", {}, "test")
        assert not answered.may_land(), "it was never sent"
        await another.release(answered.may_land())
    assert store.holder() == ""


async def test_a_write_is_waited_for_no_longer_than_its_process_may_write() -> None:
    """Its connection is closed then, so that it does not land later, when another leads."""
    left_s = 0.5
    async with silent() as (session, asked):
        requests = Requests(session, Pace(), lambda: left_s)
        async with asyncio.timeout(REQUEST_S_MAX - 1):
            with pytest.raises(Away):
                await requests.merge("/object", {}, "test")
        assert asked.is_set()
        left_s = 0.0
        with pytest.raises(NotLeading):
            await requests.merge("/object", {}, "test")


@pytest.mark.promise("OPERATOR-9")
async def test_a_process_that_is_stopped_as_it_looks_whether_it_may_write_waits_for_that_write_no_longer() -> None:
    """Method: whoever asks a second time for how long it may write hears that it may not; no time at all is no bound to a client."""
    left_s = iter((0.5,))
    async with silent() as (session, _):
        requests = Requests(session, Pace(), lambda: next(left_s, -20.0))
        async with asyncio.timeout(REQUEST_S_MAX - 1):
            with pytest.raises(Away):
                await requests.merge("/object", {}, "test")
