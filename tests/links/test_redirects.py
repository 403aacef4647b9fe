"""Following links: every state from every cache, one fill per miss, versions that fence old records out, and exact visits."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from groundswell.kernel import errors as kernel_errors
from groundswell.kernel.context import Context
from groundswell.links import errors
from groundswell.links.model import codes
from groundswell.links.model.links import Link, Target
from groundswell.links.service.bulkhead import Bulkhead
from groundswell.links.service.redirects import Redirect
from groundswell.links.store.links import LinkStore
from groundswell.links.store.targets import ABSENT_TTL_MS, TTL_MS

from .conftest import NO_REQUEST, Process, Start, started

HOUR_MS = 3_600_000


async def follow(process: Process, link: Link) -> Redirect:
    return await process.redirects.resolve(link.domain, link.code)


async def outcome(process: Process, host: str, code: str) -> str:
    """The destination, or the name of the error."""
    try:
        return (await process.redirects.resolve(host, code)).target.destination
    except kernel_errors.NotFound as error:
        return type(error).__name__


async def forget(process: Process, link: Link) -> None:
    """Drops the record, and the lease of who filled it."""
    for family in ("links", "links:fill"):
        await process.redis.execute("DEL", f"{family}:{link.domain}:{link.code}")


def database_reads() -> float:
    """Of all processes of this test: they share the interpreter and so its metrics."""
    return REGISTRY.get_sample_value("groundswell_links_target_reads_total", {"source": "database"}) or 0.0


async def stored(process: Process, context: Context, link: Link) -> Target:
    async with process.database.tenant_tx(context) as tx:
        found = await LinkStore(tx).target(codes.shard_of(link.domain_id, link.code), link.domain_id, link.code)
    assert found is not None
    return found


@pytest.mark.promise("LINKS-3", "LINKS-12")
async def test_a_link_redirects_with_its_status_from_any_process(
    process: Process, other: Process, alice: Context
) -> None:
    link = await process.create(alice, "https://example.com/a?b=%2f", redirect_status=308, edge_seconds=60)
    plain = await process.create(alice)
    for each in (process, other):
        found = await follow(each, link)
        assert (found.target.destination, found.target.redirect_status, found.edge_seconds) == (
            "https://example.com/a?b=%2f",
            308,
            60,
        )
        assert (found.target.link, found.target.tenant, found.lasts_ms) == (link.id, alice.tenant, None)
        assert ((await follow(each, plain)).target.redirect_status, (await follow(each, plain)).edge_seconds) == (
            302,
            0,
        )


@pytest.mark.promise("LINKS-9")
@pytest.mark.parametrize("cached", [False, True])
async def test_moments_hold_at_every_redirect(process: Process, other: Process, alice: Context, cached: bool) -> None:
    """Not yet valid, then live, then expired; read from PostgreSQL each time, and from a record that Valkey holds all along."""
    now_ms = process.clock.now_ms()
    link = await process.create(alice, valid_since_ms=now_ms + HOUR_MS, expires_ms=now_ms + 2 * HOUR_MS)
    expected = [
        (0, "LinkNotFound"),
        (HOUR_MS, "https://example.com/"),
        (2 * HOUR_MS, "LinkGone"),
        (9 * HOUR_MS, "LinkGone"),
    ]
    for ahead_ms, what in expected:
        for each in (process, other):
            each.clock.ahead_ms = ahead_ms
            if not cached:
                await forget(process, link)
            assert await outcome(each, link.domain, link.code) == what, ahead_ms


@pytest.mark.promise("LINKS-9")
async def test_an_answer_is_repeated_no_longer_than_the_link_lives(process: Process, alice: Context) -> None:
    link = await process.create(alice, expires_ms=process.clock.now_ms() + 60_000, edge_seconds=3_600)
    found = await follow(process, link)
    assert found.lasts_ms is not None
    assert 59_000 < found.lasts_ms <= 60_000
    assert found.edge_seconds == 59
    process.clock.ahead_ms = 57_000
    assert 0 < ((await follow(process, link)).lasts_ms or 0) <= 3_000


@pytest.mark.promise("LINKS-9")
async def test_a_change_shows_at_once_in_every_process(process: Process, other: Process, alice: Context) -> None:
    """Re-pointed, disabled, enabled, given an end, deleted: each after both processes have followed the state before."""
    link = await process.create(alice)
    far_ms = process.clock.now_ms() + HOUR_MS
    for chosen, what in (
        ({"destination": "https://example.org/"}, "https://example.org/"),
        ({"active": False}, "LinkGone"),
        ({"active": True}, "https://example.org/"),
        ({"expires_ms": 1}, "LinkGone"),
        ({"expires_ms": far_ms}, "https://example.org/"),
        ({"valid_since_ms": far_ms - 1}, "LinkNotFound"),
    ):
        link = await process.change(alice, link, **chosen)
        assert [await outcome(each, link.domain, link.code) for each in (process, other)] == [what, what], chosen
    await other.links.delete(alice, link.id, NO_REQUEST)
    assert [await outcome(each, link.domain, link.code) for each in (process, other)] == ["LinkNotFound"] * 2


@pytest.mark.promise("LINKS-9")
async def test_a_slow_reader_can_not_put_an_old_target_back(process: Process, other: Process, alice: Context) -> None:
    """It read version 1 before the change, and writes it after. The control: without a newer record the same write takes."""
    link = await process.create(alice)
    old = await stored(other, alice, link)
    link = await process.change(alice, link, active=False)
    assert not await other.cache.write(link.domain, link.code, old)
    assert not await other.cache.write(link.domain, link.code, None)
    assert await outcome(other, link.domain, link.code) == "LinkGone"
    await forget(process, link)
    assert await other.cache.write(link.domain, link.code, old)


@pytest.mark.promise("LINKS-9")
async def test_in_whatever_order_records_arrive_the_highest_version_stays(process: Process, alice: Context) -> None:
    first = await stored(process, alice, await process.create(alice))
    records = [
        None,
        *(replace(first, version=version, destination=f"https://example.com/{version}") for version in (1, 2, 10)),
    ]
    for number, order in enumerate(itertools.permutations(records)):
        for record in order:
            await process.cache.write("fence.test", f"order{number}", record)
        entry = await process.cache.read("fence.test", f"order{number}")
        assert entry is not None
        assert entry.target == records[-1]


@pytest.mark.promise("LINKS-3")
async def test_an_absence_is_remembered_until_the_code_is_created(
    process: Process, other: Process, alice: Context
) -> None:
    host = (await process.domains.default(alice)).host
    before = database_reads()
    assert [await outcome(each, host, "summer") for each in (process, other, process)] == ["LinkNotFound"] * 3
    assert database_reads() == before + 1
    assert 0 < await process.redis.execute("PTTL", f"links:{host}:summer") <= ABSENT_TTL_MS
    await process.create(alice, code="summer")
    assert await outcome(other, host, "summer") == "https://example.com/"


@pytest.mark.promise("LINKS-3")
async def test_a_miss_is_filled_once_over_all_processes(process: Process, other: Process, alice: Context) -> None:
    warm, *links = [await process.create(alice) for _ in range(4)]
    for each in (process, other):
        await follow(each, warm)
    before = database_reads()
    found = await asyncio.gather(*(follow(each, link) for link in links for each in (process, other) * 50))
    assert database_reads() == before + 3
    assert {each.target.link for each in found} == {link.id for link in links}
    for link in links:
        remaining_ms = await process.redis.execute("PTTL", f"links:{link.domain}:{link.code}")
        assert TTL_MS * 0.9 - 5_000 < remaining_ms <= TTL_MS * 1.1


@pytest.mark.promise("LINKS-3")
async def test_a_reader_that_died_over_a_fill_holds_nobody_up(process: Process, alice: Context) -> None:
    link = await process.create(alice)
    assert await process.cache.lease_fill(link.domain, link.code)
    assert (await asyncio.wait_for(follow(process, link), 3)).target.link == link.id


@pytest.mark.promise("LINKS-3")
async def test_a_record_that_is_asked_for_near_its_end_is_read_anew_behind_the_visitors(
    process: Process, alice: Context
) -> None:
    link = await process.create(alice)
    await follow(process, link)
    before = await process.cache.read(link.domain, link.code)
    assert before is not None
    await process.cache.release_fill(link.domain, link.code)
    process.clock.ahead_ms = TTL_MS
    reads = database_reads()
    await asyncio.gather(*(follow(process, link) for _ in range(50)))
    async with asyncio.timeout(5):
        while (
            entry := await process.cache.read(link.domain, link.code)
        ) and entry.refresh_at_ms == before.refresh_at_ms:
            await asyncio.sleep(0.01)
    assert database_reads() == reads + 1


@pytest.mark.promise("LINKS-3")
async def test_what_is_no_code_is_never_looked_up(slugs: dict[int, str]) -> None:
    """Both engines' addresses lead nowhere: whatever asked one of them would be Unavailable, as the control is."""
    nowhere = "127.0.0.1:1"
    async with started(f"postgres://nobody:x@{nowhere}/none", f"redis://{nowhere}", slugs) as process:
        for text in ("ab", "a" * 65, "😀😀😀😀", "a%2fb", "a/b", "..", "a b c", "abc\r\n"):
            with pytest.raises(errors.LinkNotFound):
                await process.redirects.resolve("short.test", text)
        with pytest.raises(kernel_errors.Unavailable):
            await process.redirects.resolve("short.test", "abc")


@pytest.mark.promise("LINKS-10")
async def test_a_code_means_nothing_on_another_tenants_domain(process: Process, alice: Context, bob: Context) -> None:
    link = await process.create(alice)
    theirs = await process.domains.default(bob)
    assert await outcome(process, theirs.host, link.code) == "LinkNotFound"
    assert await outcome(process, "unknown.test", link.code) == "LinkNotFound"


@pytest.mark.promise("LINKS-9")
async def test_a_bounded_link_redirects_as_often_as_it_says(process: Process, other: Process, alice: Context) -> None:
    """100 visitors at once from two processes on ten visits; nothing about them may be repeated without asking."""
    link = await process.create(alice, max_visits=10)
    visits = await asyncio.gather(
        *(follow(each, link) for each in (process, other) for _ in range(50)), return_exceptions=True
    )
    assert [each for each in visits if not isinstance(each, (Redirect, errors.LinkGone))] == []
    redirected = [each for each in visits if isinstance(each, Redirect)]
    assert len(redirected) == 10
    assert {each.lasts_ms for each in redirected} == {0}
    assert (await process.links.get(alice, link.id)).visits_used == 10


@pytest.mark.promise("LINKS-9")
async def test_a_raised_bound_gives_the_difference_and_a_lowered_one_ends_the_link(
    process: Process, alice: Context
) -> None:
    link = await process.create(alice, max_visits=2)
    for bound, left in ((2, 2), (5, 3), (4, 0)):
        link = await process.change(alice, link, max_visits=bound)
        got = [await outcome(process, link.domain, link.code) for _ in range(6)]
        assert got.count("https://example.com/") == left, bound
    link = await process.change(alice, link, max_visits=0)
    assert await outcome(process, link.domain, link.code) == "https://example.com/"


@pytest.mark.promise("LINKS-4")
async def test_the_bulkhead_refuses_what_would_wait_too_long() -> None:
    bulkhead, inside, release = Bulkhead(running=2, waiting=3, seconds=5), 0, asyncio.Event()

    async def enter() -> None:
        nonlocal inside
        async with bulkhead.entered():
            inside += 1
            await release.wait()

    tasks = [asyncio.create_task(enter()) for _ in range(8)]
    done, waiting = await asyncio.wait(tasks, timeout=0.05)
    assert inside == 2
    assert len(done) == 3
    assert all(isinstance(task.exception(), kernel_errors.Unavailable) for task in done)
    release.set()
    await asyncio.gather(*waiting)
    assert inside == 5


@pytest.mark.promise("LINKS-9")
async def test_answers_while_a_link_changes_are_never_older_than_the_change(
    start: Start, process: Process, alice: Context
) -> None:
    """Four processes follow the link without pause while it is re-pointed 30 times; records are dropped at random moments."""
    link = await process.create(alice, "https://example.com/0")
    current = 0

    async def visit(visitor: Process) -> None:
        while current < 30:
            least = current
            seen = (await follow(visitor, link)).target.destination
            assert int(seen.rpartition("/")[2]) >= least

    async def change() -> None:
        nonlocal current
        for number in range(1, 31):
            await process.change(alice, link, destination=f"https://example.com/{number}")
            current = number
            if number % 4 == 0:
                await forget(process, link)

    async with start() as second, start() as third, start() as fourth:
        await asyncio.gather(change(), *(visit(each) for each in (process, second, third, fourth)))


@pytest.mark.promise("TENANCY-7")
async def test_links_of_a_suspended_tenant_are_not_found_and_are_there_again_after_its_resumption(
    process: Process, alice: Context, bob: Context
) -> None:
    """Whether Valkey holds them or not, and without spending a visit; the links of others go on."""
    kept, bounded, others = (
        await process.create(alice),
        await process.create(alice, max_visits=1),
        await process.create(bob),
    )
    await follow(process, kept)
    process.suspended.add(alice.tenant)
    for link in (kept, bounded):
        assert await outcome(process, link.domain, link.code) == "LinkNotFound"
    await forget(process, kept)
    assert await outcome(process, kept.domain, kept.code) == "LinkNotFound"
    assert (await follow(process, others)).target.link == others.id
    process.suspended.remove(alice.tenant)
    for link in (kept, bounded):
        assert (await follow(process, link)).target.link == link.id
