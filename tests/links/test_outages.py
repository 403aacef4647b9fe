"""Redirects while an engine is away: Valkey wiped, stopped, full, frozen with old records; PostgreSQL stopped.

The engines are the tests' own, so that they may be stopped.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from groundswell.api.links.v1 import links_events_pb2 as events_pb
from groundswell.gateway.consumers import Purges
from groundswell.gateway.model.answers import Answer, NearCache
from groundswell.gateway.service.answers import Answers
from groundswell.gateway.service.patience import Patience
from groundswell.kernel import bus, errors, postgres
from groundswell.kernel.bus.events import headers_of
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources
from groundswell.links import jobs
from groundswell.links.events import LinkEvents
from groundswell.links.model.links import Link
from groundswell.links.service.domains import HOSTS_REMEMBERED_MAX

from .conftest import ADDRESSES, KEY, MIGRATIONS, Process, Switched, started
from .test_redirects import follow, forget, outcome

AT_ONCE = 50
"""Questions that a busy machine answers within the two seconds that each may wait."""


@pytest.fixture
async def process(links_dsn: str, valkey: Switched, slugs: dict[int, str]) -> AsyncIterator[Process]:
    async with started(links_dsn, valkey.address, slugs, cache_answer_s_max=0.2) as running_process:
        yield running_process


@pytest.fixture
async def patient(links_dsn: str, valkey: Switched, slugs: dict[int, str]) -> AsyncIterator[Process]:
    """A process on the same Valkey, where that is not what is away."""
    async with started(links_dsn, valkey.address, slugs) as running_process:
        yield running_process


async def until_cache_answers(process: Process) -> None:
    """The client looks for an absent server every half second."""
    async with asyncio.timeout(10):
        while True:
            try:
                await process.redis.execute("PING")
                return
            except errors.Unavailable:
                await asyncio.sleep(0.05)


@pytest.mark.promise("LINKS-4")
async def test_redirects_go_on_while_valkey_is_wiped_stopped_and_back(
    process: Process, valkey: Switched, alice: Context
) -> None:
    link = await process.create(alice)
    assert (await follow(process, link)).target.link == link.id
    await process.redis.execute("FLUSHALL")
    assert (await follow(process, link)).target.link == link.id
    await valkey.off()
    for _ in range(200):
        assert (await follow(process, link)).target.link == link.id
    made = await process.create(alice, code="while-away")
    assert (await follow(process, made)).target.link == made.id
    await valkey.on()
    await until_cache_answers(process)
    assert (await follow(process, link)).target.link == link.id
    assert await process.cache.read(link.domain, link.code) is not None


@pytest.mark.promise("LINKS-9")
async def test_a_change_made_while_valkey_was_frozen_is_there_within_a_second_of_its_return(
    process: Process, valkey: Switched, alice: Context
) -> None:
    """It comes back with its old records, as after a network partition; the event's consumer does not give up."""
    link = await process.create(alice)
    await follow(process, link)
    valkey.signal(signal.SIGSTOP)
    try:
        changed = await process.change(alice, link, active=False)
        assert await outcome(process, link.domain, link.code) == "LinkGone"
        hearing = asyncio.create_task(process.corrections.heard([_event(link, changed)]))
        await asyncio.sleep(0)
        assert not hearing.done()
    finally:
        valkey.signal(signal.SIGCONT)
    await asyncio.wait_for(hearing, 1)
    entry = await process.cache.read(link.domain, link.code)
    assert entry is not None
    assert entry.target is not None
    assert not entry.target.active
    assert [type(each.message).__name__ for each in process.published] == ["LinkCorrected"]


class NearAnswers:
    """A gateway's near cache in front of a process of links, purged by what it is told."""

    def __init__(self, process: Process) -> None:
        self._process = process
        cache = NearCache(1 << 20)
        self._answers = Answers(cache, Patience(process.clock), process.clock, lambda: 0.0, 1.0)
        self._purges = Purges(events_pb.DESCRIPTOR.message_types_by_name.values(), cache.purge)

    async def follow(self, link: Link) -> str:
        async def ask() -> Answer:
            body = (await outcome(self._process, link.domain, link.code)).encode()
            tags, now_s = (f"link/{link.domain}/{link.code}",), self._process.clock.lasting_s()
            return Answer(200, (), body, tags=tags, fresh_until_s=now_s + 5)

        answer, _ = await self._answers.answer((0, "follow", link.code.encode()), ask)
        return answer.body.decode()

    def hear(self, event: bus.Incoming) -> None:
        self._purges.hear(event)


@pytest.mark.promise("LINKS-9")
async def test_a_near_cache_that_is_filled_from_an_old_record_after_its_purge_holds_the_change_within_a_second(
    process: Process, patient: Process, valkey: Switched, alice: Context
) -> None:
    """Valkey comes back with its old record, and a visitor of another process is quicker than the consumer of the event."""
    near, link = NearAnswers(patient), await process.create(alice)
    assert await near.follow(link) == "https://example.com/"
    valkey.signal(signal.SIGSTOP)
    try:
        changed = await process.change(alice, link, active=False)
        near.hear(_event(link, changed))
    finally:
        valkey.signal(signal.SIGCONT)
    async with asyncio.timeout(1):
        assert await near.follow(link) == "https://example.com/", "the control: the old record is what it finds"
        await process.corrections.heard([_event(link, changed)])
        for event in process.published:
            near.hear(_heard(event, link.tenant))
        assert await near.follow(link) == "LinkGone"


@pytest.mark.promise("LINKS-9")
async def test_what_is_kept_of_a_link_is_called_old_again_only_if_its_old_record_was_still_there(
    patient: Process, alice: Context
) -> None:
    link = await patient.create(alice, code="summer")
    event = _event(link, await patient.change(alice, link, active=False))
    await patient.corrections.heard([event])
    assert not patient.published
    await forget(patient, link)
    await patient.cache.write(link.domain, link.code, link.target())
    await patient.corrections.heard([event])
    assert [type(each.message).__name__ for each in patient.published] == ["LinkCorrected"]


async def fill(process: Process) -> None:
    """Puts 10 MB into Valkey and leaves it 8."""
    for number in range(1_000):
        await process.redis.execute("SET", f"junk:{number}", b"x" * 10_000, "PX", 3_600_000)
    await process.redis.execute("CONFIG", "SET", "maxmemory", "8mb")


@pytest.mark.promise("LINKS-9")
async def test_a_change_holds_although_valkey_is_full_and_does_not_evict(patient: Process, alice: Context) -> None:
    """A server of one's own may be set up so. It can not take the new record, but it does not keep the old one."""
    link = await patient.create(alice)
    await follow(patient, link)
    await patient.redis.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await fill(patient)
    with pytest.raises(RedisError, match="maxmemory"):
        await patient.redis.execute("SET", "control", "x")
    changed = await patient.change(alice, link, active=False)
    assert await outcome(patient, link.domain, link.code) == "LinkGone"
    await asyncio.wait_for(patient.corrections.heard([_event(link, changed)]), 3)


@pytest.mark.promise("LINKS-3")
async def test_a_full_valkey_makes_room_for_what_is_asked_for(patient: Process, alice: Context) -> None:
    await fill(patient)
    link = await patient.create(alice)
    await follow(patient, link)
    assert await patient.cache.read(link.domain, link.code) is not None


@pytest.mark.promise("LINKS-4")
async def test_what_valkey_holds_redirects_while_postgresql_is_stopped(
    database: Switched, valkey: Switched, alice: Context, slugs: dict[int, str]
) -> None:
    """What must ask PostgreSQL is Unavailable at once and says when to come again; all is well after its return."""
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    async with started(dsn, valkey.address, slugs) as process:
        known, cold, bounded = (
            await process.create(alice),
            await process.create(alice),
            await process.create(alice, max_visits=5),
        )
        await follow(process, known)
        await follow(process, bounded)
        await forget(process, cold)
        await database.off()
        for _ in range(200):
            assert (await follow(process, known)).target.link == known.id
        process.clock.ahead_ms = 50 * 60_000  # past the time in which the host is taken for known
        assert (await follow(process, known)).target.link == known.id
        for link in (cold, bounded):
            with pytest.raises(errors.Unavailable) as refused:
                await asyncio.wait_for(follow(process, link), 3)
            assert refused.value.retry_after_s
        with pytest.raises(errors.Unavailable):
            await process.create(alice)
        await database.on()
        assert (await follow(process, cold)).target.link == cold.id
        assert (await follow(process, bounded)).target.link == bounded.id
        assert (await process.links.get(alice, bounded.id)).visits_used == 2


@pytest.mark.promise("LINKS-4")
async def test_a_process_that_starts_while_postgresql_is_stopped_redirects_what_valkey_holds(
    database: Switched, valkey: Switched, alice: Context, slugs: dict[int, str], tmp_path: Path
) -> None:
    """Also where a host leads is left in Valkey by those who knew; the new process migrates once PostgreSQL is back."""
    environment = {
        "POSTGRES_DSN": database.address,
        "REDIS_URL": valkey.address,
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": KEY.hex(),
    }
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    async with started(dsn, valkey.address, slugs) as before:
        known = await before.create(alice)
        await follow(before, known)
    await database.off()
    async with Resources.open(environment) as resources, started(dsn, valkey.address, slugs) as process:
        opened = await resources.postgres("links")
        assert (await follow(process, known)).target.link == known.id
        with pytest.raises(errors.Unavailable):
            await rows(opened)
        await database.on()
        async with asyncio.timeout(10):
            while not await answers(opened):
                await asyncio.sleep(0.05)


@pytest.mark.promise("LINKS-4")
async def test_a_process_that_saw_both_engines_away_is_ready_again_upon_their_return_without_any_visitor(
    database: Switched, valkey: Switched, alice: Context, slugs: dict[int, str]
) -> None:
    """A balancer sends none to a process that is not ready."""
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    async with started(dsn, valkey.address, slugs) as process:
        link = await process.create(alice)
        await database.off()
        await valkey.off()
        with pytest.raises(errors.Unavailable):
            await follow(process, link)
        assert not process.redirects.possible()
        looking = asyncio.create_task(jobs.look_for_engines(process.redirects))
        await valkey.on()
        async with asyncio.timeout(10):
            while not process.redirects.possible():
                await asyncio.sleep(0.05)
        await database.on()
        looking.cancel()
        assert (await follow(process, link)).target.link == link.id


@pytest.mark.promise("LINKS-4")
async def test_hosts_that_strangers_make_up_push_out_none_that_leads_somewhere(
    database: Switched, alice: Context, slugs: dict[int, str]
) -> None:
    """One more of them than hosts are remembered; then neither engine can say where a host leads."""
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    async with started(dsn, "redis://127.0.0.1:1", slugs) as process:
        own = await process.domains.default(alice)
        assert await process.domains.serving(own.host) == own
        for first in range(0, HOSTS_REMEMBERED_MAX + 1, AT_ONCE):
            made_up = [process.domains.serving(f"h{first + number}.made.up") for number in range(AT_ONCE)]
            assert set(await asyncio.gather(*made_up)) == {None}
        await database.off()
        process.clock.ahead_ms = 3_600_000
        assert await process.domains.serving(own.host) == own


async def rows(database: postgres.Database) -> int:
    async with database.platform_tx() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM domain_hosts"))


async def answers(database: postgres.Database) -> bool:
    try:
        return await rows(database) > 0
    except errors.Unavailable:
        return False


def _event(before: Link, after: Link) -> bus.Incoming:
    """The event of a change as its consumer gets it."""
    return _heard(LinkEvents(ADDRESSES).changed(before, after), after.tenant)


def _heard(outgoing: bus.Outgoing, tenant: int) -> bus.Incoming:
    headers = headers_of(outgoing, 1, tenant)
    body = outgoing.message.SerializeToString()
    return bus.Incoming(outgoing.topic, 0, 0, outgoing.key, headers["ce_id"], headers["ce_type"], tenant, 0, "", body)
