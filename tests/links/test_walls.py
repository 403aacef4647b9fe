"""The walls between tenants on every table of links: the four traps, and the control that shows the check would see a hole."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from groundswell.kernel import clock, ids, postgres
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.postgres.migrations import dsn_of, role_password
from groundswell.links.model.links import ClickTotal, Draft, Options

from .conftest import KEY, MIGRATIONS, NO_REQUEST, Process, new_tenant, started

ROUTING = "domain_hosts"
"""The one table that is read before a tenant is known."""
WITH_TENANT = """
    SELECT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1
"""


@dataclass
class Walled:
    """A database of its own with rows of Alice in every tenant table, so that a test may break its walls."""

    process: Process
    alice: Context
    bob: Context
    app_dsn: str
    owner_dsn: str

    async def tables(self) -> list[str]:
        async with self.process.database.platform_tx() as tx:
            return [row["name"] for row in await tx.fetch(WITH_TENANT) if row["name"] != ROUTING]

    async def seen(self, context: Context | None) -> dict[str, int]:
        """How many rows of each table `context` (or nobody) sees, naming only those where it sees any."""
        transaction = self.process.database.tenant_tx(context) if context else self.process.database.platform_tx()
        async with transaction as tx:
            counts = {table: await tx.fetchval(f"SELECT count(*) FROM {table}") for table in await self.tables()}
        return {table: count for table, count in counts.items() if count}

    async def seen_by_owner(self) -> list[str]:
        """Tables whose rows the owner of the tables sees."""
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            return [
                table for table in await self.tables() if await connection.fetchval(f"SELECT count(*) FROM {table}")
            ]
        finally:
            await connection.close()

    async def as_owner(self, statement: str) -> None:
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def holes(self) -> set[str]:
        """Tables that show rows to another tenant, to nobody, or to their owner: must be empty."""
        return {*await self.seen(self.bob), *await self.seen(None), *await self.seen_by_owner()}


@pytest.fixture
async def walled(postgres_dsn: str, redis_url: str) -> AsyncIterator[Walled]:
    service, slugs = f"links{secrets.token_hex(4)}", dict[int, str]()
    app_dsn = await postgres.migrate(postgres_dsn, service, MIGRATIONS, KEY)
    owner = f"gs_{service}_owner"
    owner_dsn = dsn_of(postgres_dsn, f"gs_{service}", owner, role_password(owner, KEY))
    async with started(app_dsn, redis_url, slugs) as process:
        alice, bob = new_tenant(slugs), new_tenant(slugs, "apiKeys/2")
        draft = Draft(options=Options(destination="https://example.com/", tags=("a",), suspicious=True))
        link = await process.creation.create(alice, draft, RequestKey("r", b"d"))
        await process.links.take_totals(alice.tenant, [ClickTotal(link.id, 3, 1)])
        await process.denials.create(alice, "evil.example", NO_REQUEST)
        own = await process.domains.default(alice)
        await process.domains.update(alice, own.id, "", ["spotify"], NO_REQUEST)
        yield Walled(process, alice, bob, app_dsn, owner_dsn)


@pytest.mark.promise("LINKS-10", "TENANCY-1")
async def test_every_table_with_a_tenant_shows_its_rows_to_that_tenant_alone(walled: Walled) -> None:
    """To no other, to no transaction without one, and not to the owner of the tables."""
    assert set(await walled.seen(walled.alice)) == set(await walled.tables())
    assert len(await walled.tables()) == 11
    assert await walled.holes() == set()


@pytest.mark.promise("LINKS-10", "TENANCY-1")
async def test_the_check_names_the_table_whose_wall_is_taken_down(walled: Walled) -> None:
    """The control: each table in turn without its policy being in force, then without FORCE."""
    for table in await walled.tables():
        await walled.as_owner(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        assert await walled.holes() == {table}
        await walled.as_owner(
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"
        )
        assert await walled.holes() == {table}
        await walled.as_owner(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY; DROP POLICY tenant_isolation ON {table}")
        assert table not in await walled.seen(walled.alice), "without a policy nobody sees a row"
        await walled.as_owner(f"CALL isolate_tenants('{table}')")
    assert await walled.holes() == set()


@pytest.mark.promise("LINKS-10", "TENANCY-2")
async def test_a_connection_that_is_reused_after_failure_or_cancellation_carries_no_tenant_on(walled: Walled) -> None:
    async with postgres.opened(walled.app_dsn, ids.Ids(clock.SystemClock()), connections_max=1) as single:
        inside = asyncio.Event()

        async def work_until_cancelled() -> None:
            async with single.tenant_tx(walled.alice) as tx:
                inside.set()
                await tx.fetch("SELECT pg_sleep(30)")

        async def fail() -> None:
            async with single.tenant_tx(walled.alice) as tx:
                await tx.fetch("SELECT * FROM links")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        task = asyncio.create_task(work_until_cancelled())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with single.tenant_tx(walled.bob) as tx:
            assert await tx.fetchval("SELECT count(*) FROM links") == 0
        async with single.platform_tx() as tx:
            assert await tx.fetchval("SELECT count(*) FROM links") == 0


@pytest.mark.promise("LINKS-10", "TENANCY-1")
async def test_no_tenant_can_write_rows_of_another(walled: Walled) -> None:
    async with walled.process.database.tenant_tx(walled.bob) as tx:
        for table in await walled.tables():
            assert await tx.execute(f"DELETE FROM {table}") == 0
    for table in await walled.tables():
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with walled.process.database.tenant_tx(walled.alice) as tx:
                await tx.execute(f"UPDATE {table} SET tenant_id = $1", walled.bob.tenant)


async def test_the_table_without_a_wall_holds_hosts_and_where_they_lead_and_nothing_else(walled: Walled) -> None:
    async with walled.process.database.platform_tx() as tx:
        columns = await tx.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            ROUTING,
        )
    assert [row["attname"] for row in columns] == ["host", "tenant_id", "domain_id"]
