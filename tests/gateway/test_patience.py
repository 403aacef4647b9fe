"""What starts again is waited for, and what is gone is not: neither by places at the door nor by work."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from groundswell.gateway.service.patience import AGAIN_S, NOTICE_S_MAX, PATIENCE_S, PATIENT_MAX, Patience
from groundswell.kernel import errors
from tests.gateway.door import SECRET, Door
from tests.gateway.hand import Hand

AWAY = errors.Unreachable("Away.")


class Upstream:
    """It answers, or fails as it is told; callers ask patiently."""

    def __init__(self, patience: Patience, name: str = "method") -> None:
        self._patience = patience
        self._name = name
        self.failure: errors.Error | None = None
        self.asked = 0

    async def _ask(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        return self.asked

    async def called(self, again: type[errors.Unreachable] = errors.Unreachable) -> int:
        return await asyncio.wait_for(self._patience.asked(self._name, self._ask, again), 10)

    async def awaited(self, callers: int = 1) -> list["asyncio.Task[int]"]:
        """So many who are told for the first time that it is away, and go on waiting."""
        asked = self.asked
        waiting = [asyncio.create_task(self.called()) for _ in range(callers)]
        await _until(lambda: self.asked >= asked + callers)
        return waiting


class Bench:
    def __init__(self) -> None:
        self.clock = Hand()
        self.patience = Patience(self.clock)
        self.upstream = Upstream(self.patience)

    async def gone(self) -> None:
        """It is away for longer than anybody waits."""
        self.upstream.failure = AWAY
        (caller,) = await self.upstream.awaited()
        self.clock.now_s += PATIENCE_S - 0.1
        asked = self.upstream.asked
        await _until(lambda: self.upstream.asked > asked)
        assert not caller.done()
        self.clock.now_s += 0.2
        with pytest.raises(errors.Unreachable):
            await caller


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.promise("LINKS-4")
async def test_an_upstream_that_starts_again_is_waited_for_and_one_that_is_gone_is_not(bench: Bench) -> None:
    """Goal: a restart costs its visitors a moment, an outage costs the door no places."""
    bench.upstream.failure = AWAY
    (caller,) = await bench.upstream.awaited()
    bench.upstream.failure = None
    assert await caller == bench.upstream.asked
    await bench.gone()


@pytest.mark.promise("LINKS-4")
async def test_whoever_comes_late_in_an_outage_waits_only_until_its_end_would_have_been_noticed(bench: Bench) -> None:
    """A channel that pauses between its tries does not know at once that the upstream is back, and refuses what it could serve."""
    await bench.gone()
    bench.clock.now_s += 60
    (served,) = await bench.upstream.awaited()
    bench.clock.now_s += NOTICE_S_MAX - 0.1
    bench.upstream.failure = None
    await served
    await bench.gone()
    bench.clock.now_s += 60
    (refused,) = await bench.upstream.awaited()
    bench.clock.now_s += NOTICE_S_MAX + 0.1
    with pytest.raises(errors.Unreachable):
        await refused


@pytest.mark.promise("LINKS-4")
async def test_each_outage_of_each_upstream_is_waited_for_anew_and_only_for_its_own_time(bench: Bench) -> None:
    """What another upstream is does not matter; one that refuses was there meanwhile."""
    await bench.gone()
    await Upstream(bench.patience, "another method").called()
    (caller,) = await bench.upstream.awaited()
    bench.clock.now_s += NOTICE_S_MAX + 0.1
    with pytest.raises(errors.Unreachable):
        await caller
    bench.upstream.failure = errors.Gone("Used up.")
    with pytest.raises(errors.Gone):
        await bench.upstream.called()
    await bench.gone()


async def test_of_all_who_wait_one_at_a_time_asks_and_all_are_served_when_it_is_back(bench: Bench) -> None:
    callers, clock = 500, asyncio.get_running_loop().time
    bench.upstream.failure = AWAY
    began_s = clock()
    waiting = await bench.upstream.awaited(callers)
    await asyncio.sleep(6 * AGAIN_S)
    assert 1 <= bench.upstream.asked - callers <= (clock() - began_s) / AGAIN_S + 1
    bench.upstream.failure = None
    async with asyncio.timeout(1):
        assert len(await asyncio.gather(*waiting)) == callers


async def test_no_more_than_so_many_wait_and_the_next_are_refused_at_once(bench: Bench) -> None:
    bench.upstream.failure = AWAY
    waiting = await bench.upstream.awaited(PATIENT_MAX)
    asked = bench.upstream.asked
    with pytest.raises(errors.Unreachable):
        await bench.upstream.called()
    assert not any(caller.done() for caller in waiting)
    assert bench.upstream.asked - asked <= 2
    bench.upstream.failure = None
    await asyncio.gather(*waiting)
    bench.upstream.failure = AWAY
    await bench.upstream.awaited(1)


async def test_what_may_not_be_done_twice_is_asked_again_only_when_it_has_reached_nobody(bench: Bench) -> None:
    bench.upstream.failure = AWAY
    with pytest.raises(errors.Unreachable):
        await bench.upstream.called(errors.Unsent)
    assert bench.upstream.asked == 1
    bench.upstream.failure = errors.Unsent("Nobody there.")
    caller = asyncio.create_task(bench.upstream.called(errors.Unsent))
    await _until(lambda: bench.upstream.asked > 2)
    bench.upstream.failure = None
    await caller


async def test_a_request_that_comes_while_its_service_starts_again_waits_and_is_made_once(door: Door) -> None:
    """Through the door, without an id of the request: nothing but that nobody was reached allows a second try."""

    def create(title: str) -> "asyncio.Task[httpx.Response]":
        headers = {"authorization": f"Bearer {SECRET}"}
        return asyncio.create_task(door.client.post("/v1/shelves/3/books", json={"title": title}, headers=headers))

    assert (await create("first")).status_code == 201
    await door.service.stop()
    waiting = create("second")
    await asyncio.sleep(2 * AGAIN_S)
    assert not waiting.done()
    await door.service.start()
    assert (await waiting).status_code == 201
    assert [each.book.title for each in door.library.calls] == ["first", "second"]
