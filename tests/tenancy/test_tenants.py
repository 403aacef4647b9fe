"""Tenants: creation, names, suspension, and who may see which."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundswell import tenancy
from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.kernel import clock, errors, ids, postgres
from groundswell.kernel.bus.events import Incoming
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.tenants import Directory, TenantSuspended
from groundswell.tenancy.errors import PlatformStays, SlugInvalid, SlugReserved, SlugTaken, TenantNotFound
from groundswell.tenancy.events import created, resumed, suspended
from groundswell.tenancy.model import Tenant
from groundswell.tenancy.service import Tenants
from tests.kernel.wire import Wire

STAFF = Context(tenant=1, actor="apiKeys/1", permissions=frozenset({"*", "platform.*"}))
DEMO = Context(tenant=2, actor="apiKeys/2", permissions=frozenset({"*"}))
NO_KEY = RequestKey()


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[postgres.Database]:
    dsn = await postgres.migrate(postgres_dsn, "tenancy", Path(tenancy.__path__[0]) / "migrations", b"k" * 32)
    async with postgres.opened(dsn, ids.Ids(clock.SystemClock())) as opened:
        async with opened.platform_tx() as tx:
            await tx.execute("DELETE FROM tenants")
            await tx.execute("DELETE FROM outbox")
        yield opened


@pytest.fixture
def tenants(database: postgres.Database) -> Tenants:
    return Tenants(database, ids.Ids(clock.SystemClock()), clock.SystemClock())


async def published(database: postgres.Database) -> list[str]:
    async with database.platform_tx() as tx:
        return [row["type"] for row in await tx.fetch("SELECT headers->>'ce_type' AS type FROM outbox ORDER BY seq")]


async def test_an_installation_begins_with_two_tenants_however_often_it_starts(
    tenants: Tenants, database: postgres.Database
) -> None:
    await asyncio.gather(*(tenants.found("demo") for _ in range(4)))
    assert [(tenant.id, tenant.slug) for tenant in await tenants.page(STAFF, 0, 10)] == [(1, "platform"), (2, "demo")]
    assert len(await published(database)) == 2


async def test_of_concurrent_creations_with_one_slug_one_wins(tenants: Tenants, database: postgres.Database) -> None:
    made = await asyncio.gather(*(tenants.create(STAFF, "acme", "", NO_KEY) for _ in range(16)), return_exceptions=True)
    assert sum(isinstance(each, Tenant) for each in made) == 1
    assert sum(isinstance(each, SlugTaken) for each in made) == 15
    assert await published(database) == ["groundswell.api.tenancy.v1.TenantCreated"]


async def test_the_same_request_twice_makes_one_tenant(tenants: Tenants, database: postgres.Database) -> None:
    first = await tenants.create(STAFF, "twice", "Twice", RequestKey("t1", b"d"))
    assert await tenants.create(STAFF, "twice", "Twice", RequestKey("t1", b"d")) == first
    assert len(await published(database)) == 1


@pytest.mark.parametrize("slug", ["ab", "-abc", "abc-", "ABC", "a b", "a" * 41, "", "ümlaut", "a.b", "abc\n"])
async def test_a_slug_that_is_no_slug_is_refused(tenants: Tenants, slug: str) -> None:
    with pytest.raises(SlugInvalid):
        await tenants.create(STAFF, slug, "", NO_KEY)


async def test_a_reserved_slug_is_refused(tenants: Tenants) -> None:
    with pytest.raises(SlugReserved):
        await tenants.create(STAFF, "admin", "", NO_KEY)


@pytest.mark.promise("TENANCY-3")
async def test_a_foreign_tenant_looks_like_an_absent_one(tenants: Tenants) -> None:
    await tenants.found("demo")
    other = await tenants.create(STAFF, "other", "", NO_KEY)
    assert (await tenants.get(STAFF, other.id)).slug == "other"
    assert (await tenants.get(DEMO, DEMO.tenant)).slug == "demo"
    refused = []
    for id_ in (other.id, 999_999):
        with pytest.raises(TenantNotFound) as error:
            await tenants.get(DEMO, id_)
        refused.append(error.value.message)
    assert refused[0] == refused[1]


async def test_while_the_database_is_silent_who_reads_hears_it_before_the_time_is_over(
    database: postgres.Database,
) -> None:
    """The control is a caller with time: that one still waits."""
    numbers = ids.Ids(clock.SystemClock())
    async with Wire(b"FROM tenants", "hold").to(database.dsn) as dsn, postgres.opened(dsn, numbers) as silent:
        tenants = Tenants(silent, numbers, clock.SystemClock())
        patient = asyncio.create_task(tenants.get(DEMO, DEMO.tenant))
        hurried = replace(DEMO, deadline_s=time.monotonic() + 2)
        asking = [tenants.get(hurried, DEMO.tenant), tenants.page(hurried, 0, 10)]
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert not patient.done()
        assert [type(each) for each in told] == [errors.Unavailable] * 2
        patient.cancel()
        await asyncio.gather(patient, return_exceptions=True)


@pytest.mark.promise("TENANCY-7")
async def test_a_suspension_reaches_the_directory_and_is_taken_back(tenants: Tenants) -> None:
    """What every process does with the events: the suspended tenant is refused, the resumed one is let in again."""
    acme = await tenants.create(STAFF, "acme", "", NO_KEY)
    directory, context = Directory(), Context(tenant=acme.id)
    stopped = await tenants.suspend(STAFF, acme.id, NO_KEY)
    directory.hear(delivered(suspended(stopped)))
    with pytest.raises(TenantSuspended):
        directory.refuse_suspended(context)
    directory.hear(delivered(resumed(await tenants.resume(STAFF, acme.id, NO_KEY))))
    directory.refuse_suspended(context)


async def test_an_old_event_does_not_turn_the_directory_back() -> None:
    directory = Directory()
    directory.hear(delivered(resumed(Tenant(5, "five", "", False, 1, revision=3))))
    directory.hear(delivered(suspended(Tenant(5, "five", "", True, 1, revision=2))))
    directory.hear(delivered(created(Tenant(5, "five", "", False, 1, revision=1))))
    entry = directory.find(5)
    assert entry is not None
    assert not entry.suspended


async def test_who_asks_for_a_tenant_before_the_news_of_it_is_answered_when_the_news_comes() -> None:
    """A new tenant's owner calls at once, in a process that has not heard of the tenant."""
    directory = Directory()
    asked = [asyncio.create_task(directory.awaited(5, 10.0)) for _ in range(3)]
    await asyncio.sleep(0)
    directory.hear(delivered(created(Tenant(4, "four", "", False, 1, revision=1))))
    directory.hear(delivered(created(Tenant(5, "five", "", False, 1, revision=1))))
    assert [entry.slug for entry in await asyncio.gather(*asked) if entry] == ["five"] * 3
    assert await directory.awaited(6, 0.0) is None


async def test_the_platform_itself_stays(tenants: Tenants) -> None:
    with pytest.raises(PlatformStays):
        await tenants.suspend(STAFF, 1, NO_KEY)
    with pytest.raises(errors.NotFound):
        await tenants.suspend(STAFF, 424_242, NO_KEY)


def delivered(event: object) -> Incoming:
    """The event as a consumer gets it."""
    message = event.message  # type: ignore[attr-defined]  # an Outgoing
    assert isinstance(message, events_pb.TenantCreated | events_pb.TenantSuspended | events_pb.TenantResumed)
    return Incoming("t", 0, 0, "k", "1", message.DESCRIPTOR.full_name, 5, 0, "", message.SerializeToString())
