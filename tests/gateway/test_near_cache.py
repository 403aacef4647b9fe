"""Kept answers: how long, how many calls, who forgets them; first the rules alone, then through the door."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from groundswell.gateway.model.answers import OVERHEAD_BYTES, Answer, Counted, Key, NearCache
from groundswell.gateway.service.answers import FILL_TRIES_MAX, Answers, Verdict
from groundswell.gateway.service.patience import Patience
from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import errors
from tests.gateway.door import ALICE, Door, pb
from tests.gateway.hand import Hand

KEY: Key = (0, "method", b"request")


@dataclass
class Origin:
    """An upstream that counts, waits and fails as it is told."""

    clock: Hand
    ttl_s: float = 5.0
    stale_s: float = 60.0
    calls: int = 0
    failure: errors.Error | None = None
    gate: asyncio.Event | None = None
    during: list[Any] = field(default_factory=list)
    counted: Counted | None = None

    async def ask(self) -> Answer:
        self.calls += 1
        number = self.calls
        if self.gate:
            await self.gate.wait()
        if self.during:
            self.during.pop(0)()
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        fresh = self.clock.lasting_s() + self.ttl_s if self.ttl_s else 0.0
        stale = fresh + self.stale_s
        return Answer(
            200, (), b"%d" % number, counted=self.counted, tags=("t",), fresh_until_s=fresh, stale_until_s=stale
        )


class Bench:
    """The use case with all its collaborators."""

    def __init__(self) -> None:
        self.clock = Hand()
        self.origin = Origin(self.clock)
        self.lag_s = 0.0
        self.cache = NearCache(1 << 20)
        self.suspended: set[int] = set()
        self.answers = Answers(
            self.cache,
            Patience(self.clock),
            self.clock,
            lambda: self.lag_s,
            GatewaySettings().feed_lag_s_max,
            self.suspended,
        )

    async def get(self) -> tuple[bytes, Verdict]:
        answer, verdict = await self.answers.answer(KEY, self.origin.ask)
        return answer.body, verdict


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.promise("GATEWAY-7")
async def test_however_many_wait_the_upstream_is_asked_once_for_a_key_and_a_lifetime(bench: Bench) -> None:
    """GATEWAY-7. 200 callers, one call; after the lifetime one more."""
    bench.origin.gate = asyncio.Event()
    waiting = [asyncio.create_task(bench.get()) for _ in range(200)]
    await asyncio.sleep(0)
    bench.origin.gate.set()
    assert {body for body, _ in await asyncio.gather(*waiting)} == {b"1"}
    bench.clock.now_s += 4.9
    assert await bench.get() == (b"1", Verdict.HIT)
    bench.clock.now_s += 0.2
    assert await bench.get() == (b"2", Verdict.MISS)
    assert bench.origin.calls == 2


@pytest.mark.promise("GATEWAY-7")
async def test_what_ended_while_the_machine_slept_is_not_served_when_it_wakes(bench: Bench) -> None:
    """GATEWAY-7. Nor does it stand in for a service that is away: a link may have expired in the night."""
    await bench.get()
    bench.clock.asleep_s += bench.origin.ttl_s + 0.1
    assert await bench.get() == (b"2", Verdict.MISS)
    bench.clock.asleep_s += bench.origin.ttl_s + bench.origin.stale_s + 0.1
    bench.origin.failure = errors.Unavailable("Away.")
    with pytest.raises(errors.Unavailable):
        await bench.get()


@pytest.mark.promise("GATEWAY-7")
async def test_a_caller_who_leaves_does_not_take_the_call_from_those_who_wait(bench: Bench) -> None:
    """GATEWAY-7. The first caller's client hangs up."""
    bench.origin.gate = asyncio.Event()
    first, second = asyncio.create_task(bench.get()), asyncio.create_task(bench.get())
    await asyncio.sleep(0)
    first.cancel()
    bench.origin.gate.set()
    assert (await second)[0] == b"1"
    assert bench.origin.calls == 1


@pytest.mark.promise("GATEWAY-7")
async def test_a_purge_forgets_at_once_and_voids_the_fill_that_it_overtakes(bench: Bench) -> None:
    """GATEWAY-7. Kept answers go; an answer asked before the purge is asked again, and nobody gets the old one."""
    await bench.get()
    bench.answers.purge("t")
    assert await bench.get() == (b"2", Verdict.MISS)
    bench.answers.purge("t")
    bench.origin.during = [lambda: bench.answers.purge("t")]
    assert await bench.get() == (b"4", Verdict.MISS)
    assert await bench.get() == (b"4", Verdict.HIT)
    bench.answers.purge("t")
    bench.origin.during = [lambda: bench.answers.purge("t")] * FILL_TRIES_MAX
    await bench.get()
    assert len(bench.cache) == 0, "an answer that was overtaken each time must not be kept"


@pytest.mark.promise("LINKS-4")
async def test_an_upstream_that_says_no_is_not_asked_again_nor_one_that_something_stands_in_for(bench: Bench) -> None:
    bench.origin.failure = errors.Unavailable("The database is away.")
    with pytest.raises(errors.Unavailable):
        await bench.get()
    assert bench.origin.calls == 1
    bench.origin.failure = None
    await bench.get()
    bench.clock.now_s += 6
    bench.origin.failure = errors.Unreachable("Away.")
    assert (await bench.get())[1] is Verdict.STALE
    assert bench.origin.calls == 3


@pytest.mark.promise("GATEWAY-7")
async def test_who_finds_no_room_to_wait_gets_what_is_kept_for_as_long_as_it_may_stand_in(bench: Bench) -> None:
    """GATEWAY-7. Fresh or not, nobody is asked; what may not be served at all is not served then either."""

    def full() -> None:
        raise errors.Unavailable("Too many.")

    async def get() -> Verdict:
        return (await bench.answers.answer(KEY, bench.origin.ask, full))[1]

    with pytest.raises(errors.Unavailable):
        await get()
    await bench.get()
    assert await get() is Verdict.HIT
    bench.clock.now_s += 6
    assert await get() is Verdict.STALE
    bench.lag_s = 1.0
    with pytest.raises(errors.Unavailable):
        await get()
    bench.lag_s = 0.0
    assert await get() is Verdict.STALE
    bench.clock.now_s += 60
    with pytest.raises(errors.Unavailable):
        await get()
    assert bench.origin.calls == 1


@pytest.mark.promise("TENANCY-7")
async def test_what_is_kept_of_a_suspended_tenant_is_served_to_nobody_until_it_is_resumed(bench: Bench) -> None:
    """Neither fresh, nor in the place of a service that is away; other tenants' answers go on."""
    bench.origin.counted = Counted("click", 7, 1, wait_for_ack=False)
    await bench.get()
    bench.suspended.add(8)
    assert await bench.get() == (b"1", Verdict.HIT)
    bench.suspended.add(7)
    bench.origin.failure = errors.NotFound("No.")
    with pytest.raises(errors.NotFound):
        await bench.get()
    bench.origin.failure = errors.Unavailable("Away.")
    with pytest.raises(errors.Unavailable):
        await bench.get()
    bench.suspended.remove(7)
    assert await bench.get() == (b"1", Verdict.HIT)


@pytest.mark.promise("TENANCY-7")
async def test_a_tenant_suspended_while_its_service_is_asked_gets_no_stale_answer_instead(bench: Bench) -> None:
    """It was servable when the asking began."""
    bench.origin.counted = Counted("click", 7, 1, wait_for_ack=False)
    await bench.get()
    bench.clock.now_s += 10

    async def away() -> Answer:
        bench.suspended.add(7)
        raise errors.Unavailable("Away.")

    with pytest.raises(errors.Unavailable):
        await bench.answers.answer(KEY, away)


@pytest.mark.promise("TENANCY-7")
async def test_through_the_door_a_suspended_tenant_is_refused_and_its_hot_links_are_asked_for(door: Door) -> None:
    """Goal: neither a remembered credential nor the hot path outlives a suspension."""
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/", tenant=ALICE.tenant)
    for _ in range(3):
        assert (await door.client.get("/abc")).status_code == 302
    assert (await door.get("/v1/shelves/3/books")).status_code == 200
    asked = len(door.library.calls)
    door.suspended.add(ALICE.tenant)
    refused = await door.get("/v1/shelves/3/books")
    assert refused.status_code == 403
    assert refused.json()["type"].endswith("/tenant-suspended")
    assert len(door.library.calls) == asked
    await door.client.get("/abc")
    assert len(door.library.calls) == asked + 1


@pytest.mark.promise("GATEWAY-7", "LINKS-9")
async def test_what_was_kept_or_asked_for_before_the_feed_was_near_is_not_served_after(bench: Bench) -> None:
    """GATEWAY-7. Its purge may never come: it was told before the feed began, or is told by somebody who hears of the return later."""
    await bench.get()
    bench.cache.alias((b"h", b"/p"), KEY, bench.cache._answers[KEY])
    bench.cache.clear()
    assert bench.answers.hit((b"h", b"/p")) is None
    bench.origin.during = [bench.cache.clear]
    assert await bench.get() == (b"3", Verdict.MISS), "asked before, answered after: asked again"
    assert await bench.get() == (b"3", Verdict.HIT)
    bench.answers.purge("t")
    assert (len(bench.cache), bench.cache.size_bytes) == (0, 0)


@pytest.mark.promise("GATEWAY-7", "LINKS-9")
async def test_while_the_feed_is_behind_nothing_kept_is_served(bench: Bench) -> None:
    """GATEWAY-7. Before a second is over every caller is answered from upstream. Control: with the bound lifted the old answer comes."""
    await bench.get()
    bench.lag_s = 0.89
    assert await bench.get() == (b"1", Verdict.HIT)
    bench.lag_s = 0.91
    assert await bench.get() == (b"2", Verdict.BYPASS)
    assert bench.answers.hit((b"", b"")) is None
    trusting = Answers(bench.cache, Patience(bench.clock), bench.clock, lambda: bench.lag_s, float("inf"))
    assert (await trusting.answer(KEY, bench.origin.ask))[1] is Verdict.HIT


@pytest.mark.promise("GATEWAY-7")
async def test_a_stale_answer_stands_in_only_while_its_upstream_is_down_and_within_its_life(bench: Bench) -> None:
    """GATEWAY-7. Unavailable and late are `down`; gone and not found are answers."""
    await bench.get()
    bench.clock.now_s += 6
    bench.origin.failure = errors.Unavailable("down")
    assert await bench.get() == (b"1", Verdict.STALE)
    assert await bench.get() == (b"1", Verdict.STALE)
    assert bench.origin.calls == 2, "within half a second only one caller finds out whether it is back"
    bench.clock.now_s += 1
    bench.origin.failure = errors.Gone("gone")
    with pytest.raises(errors.Gone):
        await bench.get()
    bench.origin.failure = errors.DeadlineExceeded("late")
    assert (await bench.get())[1] is Verdict.STALE
    bench.clock.now_s += 60
    with pytest.raises(errors.DeadlineExceeded):
        await bench.get()


@pytest.mark.promise("GATEWAY-7")
async def test_a_purged_answer_never_stands_in(bench: Bench) -> None:
    """GATEWAY-7. It was called old, so it is not served however far down its upstream is."""
    await bench.get()
    bench.clock.now_s += 6
    bench.origin.failure = errors.Unavailable("down")
    bench.origin.during = [lambda: bench.answers.purge("t")]
    with pytest.raises(errors.Unavailable):
        await bench.get()


@pytest.mark.promise("GATEWAY-7")
async def test_an_answer_that_may_not_be_kept_is_asked_for_each_caller(bench: Bench) -> None:
    """GATEWAY-7. A link with a bound on its visits must not hand one visit to many."""
    bench.origin.ttl_s = 0
    bodies = [body for body, _ in await asyncio.gather(*(bench.get() for _ in range(20)))]
    assert len(set(bodies)) == 20
    assert len({body for body, _ in await asyncio.gather(*(bench.get() for _ in range(20)))}) == 20
    assert bench.origin.calls == 40


def test_memory_stays_within_its_bound_and_answers_that_are_read_stay_longer() -> None:
    """The cache evicts what nobody reads first, and counts its bytes right through all changes."""
    cache = NearCache(10 * (OVERHEAD_BYTES + 100))
    for number in range(10):
        cache.keep((0, "m", b"%d" % number), Answer(200, (), b"x" * 100, tags=(f"t{number}",), fresh_until_s=1))
    assert cache.find((0, "m", b"0")) is not None
    cache.keep((0, "m", b"new"), Answer(200, (), b"x" * 100, fresh_until_s=1))
    assert cache.find((0, "m", b"0")) is not None
    assert cache.find((0, "m", b"1")) is None
    assert cache.size_bytes == 10 * (OVERHEAD_BYTES + 100)
    cache.keep((0, "m", b"huge"), Answer(200, (), b"x" * 100_000, fresh_until_s=1))
    assert cache.find((0, "m", b"huge")) is None
    assert cache.purge("t0") == 1
    cache.sweep(2)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_an_alias_lives_and_dies_with_its_answer() -> None:
    """The hot path finds nothing that the cache has forgotten."""
    cache = NearCache(1 << 20)
    answer = Answer(200, (), b"", tags=("t",), fresh_until_s=1)
    cache.keep(KEY, answer)
    cache.alias((b"h", b"/p"), KEY, answer)
    assert cache.by_alias[b"h", b"/p"] is answer
    assert cache.size_bytes == OVERHEAD_BYTES + len(b"h/p"), "names that come from outside count"
    cache.purge("t")
    assert not cache.by_alias
    assert cache.size_bytes == 0
    full = NearCache(OVERHEAD_BYTES)
    full.keep(KEY, answer)
    full.alias((b"h", b"/p"), KEY, answer)
    assert not full.by_alias, "nor does one that there is no room for"
    cache.alias((b"h", b"/p"), KEY, answer)
    assert not cache.by_alias, "an answer that is no longer kept gets no alias"


@pytest.mark.promise("GATEWAY-7")
async def test_through_the_door_a_hot_redirect_needs_no_call_and_a_purge_reaches_the_hot_path(door: Door) -> None:
    """GATEWAY-7. The same, on real sockets."""
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
    first = await door.client.get("/abc")
    assert (first.status_code, first.headers["location"]) == (302, "https://a.example/")
    assert first.headers["cache-status"] == "groundswell; fwd=miss"
    for _ in range(5):
        assert (await door.client.get("/abc")).headers["cache-status"] == "groundswell; hit"
    assert (await door.client.get("/abc?utm_source=x")).headers["cache-status"] == "groundswell; hit"
    assert len(door.library.calls) == 1
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://b.example/")
    door.answers.purge("code/localhost/abc")
    assert (await door.client.get("/abc")).headers["location"] == "https://b.example/"
    door.lag_s[0] = 3.0
    assert (await door.client.get("/abc")).headers["cache-status"] == "groundswell; fwd=bypass"
    assert len(door.library.calls) == 3


@pytest.mark.promise("GATEWAY-7")
async def test_through_the_door_an_answer_is_not_served_after_its_own_end(door: Door) -> None:
    """GATEWAY-7. A link that ends in 0.3 s is asked again after 0.3 s, also when its service is down."""
    answer = pb.FollowCodeResponse(location="https://a.example/")
    answer.life.FromMilliseconds(300)
    door.library.locations["short"] = answer
    assert (await door.client.get("/short")).status_code == 302
    door.library.locations.clear()
    async with asyncio.timeout(5):
        while (await door.client.get("/short")).status_code == 302:
            await asyncio.sleep(0.02)
    assert (await door.client.get("/short")).status_code == 404
    door.library.down = True
    assert (await door.client.get("/short")).status_code == 503


@pytest.mark.promise("GATEWAY-7")
async def test_through_the_door_stale_answers_stand_in_while_the_service_is_down(door: Door) -> None:
    """GATEWAY-7. `stale-if-error`, and back to fresh ones afterwards."""
    assert (await door.get("/v1/shelves/3/books/4")).status_code == 200
    door.library.down = True
    async with asyncio.timeout(5):
        while (await door.get("/v1/shelves/3/books/4")).headers["cache-status"] == "groundswell; hit":
            await asyncio.sleep(0.02)
    stale = await door.get("/v1/shelves/3/books/4")
    assert (stale.status_code, stale.headers["cache-status"]) == (200, "groundswell; hit; detail=stale-if-error")
    async with asyncio.timeout(5):
        while (await door.get("/v1/shelves/3/books/4")).status_code == 200:
            await asyncio.sleep(0.05)
    assert (await door.get("/v1/shelves/3/books/4")).headers["retry-after"] == "1"
