"""What starts again is waited for, and what is gone is not: neither by places at the door nor by work."""

import asyncio

import pytest

from groundswell.gateway.service.patience import AGAIN_S, NOTICE_S_MAX, PATIENCE_S, PATIENT_MAX, Patience
from groundswell.kernel import errors
from tests.gateway.hand import Hand
from tests.gateway.waiting import until

AWAY = errors.Unreachable("Away.")


class Upstream:
    """It answers, or fails as it is told; callers ask patiently."""

    def __init__(self, patience: Patience, name: str = "method") -> None:
        self._patience = patience
        self._name = name
        self.failure: errors.Error | None = None
        self.asked = self.failed = 0

    async def _ask(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure:
            self.failed += 1
            raise self.failure
        return self.asked

    async def called(self, again: type[errors.Unreachable] = errors.Unreachable) -> int:
        return await asyncio.wait_for(self._patience.asked(self._name, self._ask, again), 30)

    async def tried(self) -> int:
        return await self._patience.tried(self._name, self._ask)

    async def awaited(self, callers: int = 1) -> list["asyncio.Task[int]"]:
        """So many who are told for the first time that it is away, and go on waiting."""
        failed = self.failed
        waiting = [asyncio.create_task(self.called()) for _ in range(callers)]
        await until(lambda: self.failed >= failed + callers)
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
        failed = self.upstream.failed
        await until(lambda: self.upstream.failed > failed)
        assert not caller.done()
        self.clock.now_s += 0.2
        with pytest.raises(errors.Unreachable):
            await caller

    async def stays_away(self) -> None:
        """It is away, and nobody's time will be over while the test lasts, however slow the machine is."""
        self.upstream.failure = AWAY
        with pytest.raises(errors.Unreachable):
            await self.upstream.tried()
        self.clock.now_s -= 100

    async def lasts(self, seconds: float) -> None:
        """It stays away, and now and then somebody sees that."""
        for _ in range(int(seconds / PATIENCE_S) + 1):
            self.clock.now_s += PATIENCE_S - 0.1
            with pytest.raises(errors.Unreachable):
                await self.upstream.tried()

    async def refused_after(self, seconds: float) -> None:
        """A caller who comes now waits for so long and no longer."""
        (caller,) = await self.upstream.awaited()
        failed = self.upstream.failed
        self.clock.now_s += seconds - 0.1
        await until(lambda: self.upstream.failed > failed)
        assert not caller.done()
        self.clock.now_s += 0.2
        with pytest.raises(errors.Unreachable):
            await caller


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
    await bench.lasts(60)
    (served,) = await bench.upstream.awaited()
    bench.clock.now_s += NOTICE_S_MAX - 0.1
    bench.upstream.failure = None
    await served
    await bench.gone()
    await bench.lasts(60)
    await bench.refused_after(NOTICE_S_MAX)


@pytest.mark.promise("LINKS-4")
async def test_each_outage_of_each_upstream_is_waited_for_anew_and_only_for_its_own_time(bench: Bench) -> None:
    """What another upstream is does not matter; one that refuses was there meanwhile; what nobody saw for long is another outage."""
    await bench.gone()
    await Upstream(bench.patience, "another method").called()
    await bench.refused_after(NOTICE_S_MAX)
    bench.upstream.failure = errors.Gone("Used up.")
    with pytest.raises(errors.Gone):
        await bench.upstream.called()
    await bench.gone()
    bench.clock.now_s += 3_600
    await bench.gone()


async def test_who_hears_nothing_in_time_knows_nothing_of_an_outage(bench: Bench) -> None:
    """A call that is out of time neither begins an outage nor ends one."""
    await bench.gone()
    bench.upstream.failure = errors.DeadlineExceeded("Too late.")
    with pytest.raises(errors.DeadlineExceeded):
        await bench.upstream.called()
    bench.upstream.failure = AWAY
    await bench.refused_after(NOTICE_S_MAX)


async def test_what_others_are_answered_makes_nobody_s_wait_longer(bench: Bench) -> None:
    """An upstream that answers all but one caller, whose request ends it each time, say."""
    bench.upstream.failure = AWAY
    (caller,) = await bench.upstream.awaited()
    others = Upstream(bench.patience)
    for _ in range(4):
        bench.clock.now_s += PATIENCE_S / 4 + 0.1
        await others.called()
        asked = bench.upstream.asked
        await until(lambda: caller.done() or bench.upstream.asked > asked)  # noqa: B023  # awaited here
    with pytest.raises(errors.Unreachable):
        await caller


async def test_of_all_who_wait_one_asks_at_a_time_and_all_are_served_when_it_is_back(bench: Bench) -> None:
    """Whose time is over leaves without asking once more, or all who came at once would ask at once."""
    callers, clock = 500, asyncio.get_running_loop().time
    await bench.stays_away()
    asked = bench.upstream.asked
    began_s = clock()
    waiting = await bench.upstream.awaited(callers)
    await asyncio.sleep(6 * AGAIN_S)
    assert 1 <= bench.upstream.asked - asked - callers <= (clock() - began_s) / AGAIN_S + 1
    bench.upstream.failure = None
    assert len(await asyncio.gather(*waiting)) == callers


async def test_no_more_than_so_many_wait_and_places_are_given_back(bench: Bench) -> None:
    await bench.stays_away()
    waiting = await bench.upstream.awaited(PATIENT_MAX)
    refused = Upstream(bench.patience)
    refused.failure = AWAY
    with pytest.raises(errors.Unreachable):
        await refused.called()
    assert refused.asked == 1
    bench.upstream.failure = None
    await asyncio.gather(*waiting)
    (waits,) = await refused.awaited()
    await until(lambda: refused.asked > 2)
    refused.failure = None
    await waits


async def test_what_may_not_be_done_twice_is_asked_again_only_when_it_has_reached_nobody(bench: Bench) -> None:
    bench.upstream.failure = AWAY
    with pytest.raises(errors.Unreachable):
        await bench.upstream.called(errors.Unsent)
    assert bench.upstream.asked == 1
    bench.upstream.failure = errors.Unsent("Nobody there.")
    caller = asyncio.create_task(bench.upstream.called(errors.Unsent))
    await until(lambda: bench.upstream.asked > 2)
    bench.upstream.failure = None
    await caller
