"""The walls between tenants in the database of every service, with two tenants' canaries in every table.

Goal: a table that shows or takes a row across tenants cannot be added to any service, and a policy that is dropped is noticed. Method:
services and tables come from the sources and the catalogue, so nothing is to be listed when one is added; a row is made of each table's
own columns. What has no wall is listed with its reason. The control takes every wall down in turn.
"""

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from groundswell.kernel import clock, ids, postgres
from groundswell.kernel.context import Context
from groundswell.kernel.postgres.migrations import dsn_of, role_password

from .conftest import KEY

SOURCES = Path(postgres.__file__).parents[2]
SERVICES = sorted(
    {name for file in SOURCES.rglob("*.py") for name in re.findall(r'resources\.postgres\("(\w+)"\)', file.read_text())}
)
KERNELS = {"outbox", "inbox", "migrations"}
"""The relay's, the consumers' and the migrations' own: no query of a tenant names them."""
UNWALLED = {
    "links": {"domain_hosts": "leads from a host to its tenant, before there is one"},
    "identity": {"key_tenants": "leads from a key to its tenant, before there is one"},
    "tenancy": {"tenants": "is the platform's own list; the service decides who sees which row"},
}
BREACHES = (
    "DROP POLICY tenant_isolation ON {}",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY",
    "ALTER POLICY tenant_isolation ON {} USING (true)",
    "ALTER POLICY tenant_isolation ON {} WITH CHECK (true)",
    "CREATE POLICY another ON {} USING (true) WITH CHECK (false)",
)
MENDED = (
    "DROP POLICY IF EXISTS another ON {0}; DROP POLICY IF EXISTS tenant_isolation ON {0}; CALL isolate_tenants('{0}')"
)
ALICE, BOB = Context(tenant=7), Context(tenant=8)
VALUES = {"int8": 0, "int4": 0, "int2": 0, "text": "x", "bytea": b"x", "bool": False, "_text": ["x"]}
"""What a canary holds in columns of each type that must hold something."""
TABLES = """
    SELECT relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace ORDER BY 1
"""
COLUMNS = """
    SELECT attname AS name, typname AS type FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = $1::regclass AND attnum > 0 AND attnotnull AND NOT atthasdef ORDER BY attnum
"""
WITHOUT_TENANT = """
    SELECT i.indexrelid::regclass::text AS name FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = 'tenant_id'
    WHERE i.indrelid = $1::regclass AND i.indkey[0] <> a.attnum
    UNION ALL
    SELECT c.conname FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'tenant_id'
    WHERE c.conrelid = $1::regclass AND c.contype = 'f' AND c.conkey[1] <> a.attnum
"""
"""Indexes and foreign keys of a table that do not begin with the tenant."""


@dataclass
class Walled:
    """A service's database of its own, with a canary of Alice and one of Bob in every table that has a wall."""

    admin: asyncpg.Connection
    owner: asyncpg.Connection
    database: postgres.Database
    tables: list[str]

    async def faults(self) -> set[str]:
        """Tables that hide a tenant's row from it, show it to anybody else, or take one for another."""
        return {table for table in self.tables if await self._faulty(table)}

    async def _faulty(self, table: str) -> bool:
        rows = f"SELECT tenant_id FROM {table} ORDER BY 1"
        for context in (ALICE, BOB):
            async with self.database.tenant_tx(context) as tx:
                if [row["tenant_id"] for row in await tx.fetch(rows)] != [context.tenant]:
                    return True
        async with self.database.platform_tx() as tx:
            if await tx.fetch(rows):
                return True
        return bool(await self.owner.fetch(rows)) or await self._gives_away(table)

    async def _gives_away(self, table: str) -> bool:
        """Whether Alice can make her row another tenant's, or put one there: rows of some tables may not be changed by anybody."""
        stranger = BOB.tenant + 1
        insert, row = await self._canary(table, stranger)
        return await self._lets(f"UPDATE {table} SET tenant_id = $1", stranger) or await self._lets(insert, *row)

    async def _lets(self, statement: str, *values: object) -> bool:
        try:
            async with self.database.tenant_tx(ALICE) as tx:
                await tx.execute(statement, *values)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError):
            return False
        except asyncpg.ForeignKeyViolationError:
            return True  # the wall let it pass, only its link is missing
        return True

    async def _canary(self, table: str, tenant: int) -> tuple[str, list[object]]:
        """A statement that puts a row into the table, and what it takes to be the tenant's."""
        columns = await self.admin.fetch(COLUMNS, table)
        names = ", ".join(column["name"] for column in columns)
        places = ", ".join(f"${number + 1}" for number in range(len(columns)))
        row = [tenant if each["name"] == "tenant_id" else VALUES[each["type"]] for each in columns]
        return f"INSERT INTO {table} ({names}) VALUES ({places})", row

    async def app_role(self) -> str:
        """The role of the service's processes."""
        async with self.database.platform_tx() as tx:
            return str(await tx.fetchval("SELECT current_user"))

    async def put_canaries(self) -> None:
        """Puts them where they belong; the ones that are there go, wherever a breach has let them."""
        await self.admin.execute("SET session_replication_role = replica")  # a canary refers to nothing
        for table in self.tables:
            await self.admin.execute(f"DELETE FROM {table}")
            for context in (ALICE, BOB):
                insert, row = await self._canary(table, context.tenant)
                await self.admin.execute(insert, *row)


@pytest.fixture(params=SERVICES)
async def walled(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Walled]:
    service, name = request.param, f"{request.param}{secrets.token_hex(4)}"
    app_dsn = await postgres.migrate(postgres_dsn, name, SOURCES / service / "migrations", KEY)
    owner = f"gs_{name}_owner"
    admin = await asyncpg.connect(dsn_of(postgres_dsn, f"gs_{name}"))
    owns = await asyncpg.connect(dsn_of(postgres_dsn, f"gs_{name}", owner, role_password(owner, KEY)))
    open_tables = KERNELS | set(UNWALLED.get(service, {}))
    tables = [row["name"] for row in await admin.fetch(TABLES) if row["name"] not in open_tables]
    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock())) as database:
        walls = Walled(admin, owns, database, tables)
        await walls.put_canaries()
        yield walls
    await owns.close()
    await admin.close()


def test_the_services_with_a_database_are_found() -> None:
    """All that have migrations are among them; a service may also do with the kernel's tables."""
    assert {folder.parent.name for folder in SOURCES.glob("*/migrations")} <= set(SERVICES)
    assert set(UNWALLED) <= set(SERVICES)


@pytest.mark.promise("TENANCY-1")
async def test_every_table_shows_a_tenant_its_own_row_alone_and_takes_none_for_another(walled: Walled) -> None:
    """Two tenants, nobody, and the owner of the tables look at every table."""
    assert walled.tables
    assert await walled.faults() == set()


@pytest.mark.promise("TENANCY-1")
async def test_every_key_and_index_begins_with_the_tenant(walled: Walled) -> None:
    """Otherwise one tenant's row tells another one what is taken, or a question about one tenant reads them all. The control: one of each
    that does not."""
    for table in walled.tables:
        assert await walled.admin.fetch(WITHOUT_TENANT, table) == []
        column = (await walled.admin.fetch(COLUMNS, table))[-1]["name"]
        await walled.owner.execute(f"CREATE INDEX by_column ON {table} ({column}, tenant_id)")
        await walled.owner.execute(f"CREATE TABLE anybodys AS SELECT {column} FROM {table} LIMIT 1")
        await walled.owner.execute(f"ALTER TABLE anybodys ADD UNIQUE ({column})")
        await walled.owner.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT to_anybodys FOREIGN KEY ({column}) REFERENCES anybodys ({column}) NOT VALID"
        )
        assert {each["name"] for each in await walled.admin.fetch(WITHOUT_TENANT, table)} == {
            "by_column",
            "to_anybodys",
        }
        await walled.owner.execute("DROP INDEX by_column; DROP TABLE anybodys CASCADE")


@pytest.mark.promise("TENANCY-1")
async def test_no_role_of_a_service_passes_over_walls(walled: Walled) -> None:
    async with walled.database.platform_tx() as tx:
        assert not await tx.fetchval("SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user")


@pytest.mark.promise("TENANCY-1")
async def test_the_check_names_the_table_whose_wall_is_breached(walled: Walled) -> None:
    """The control: each breach of each table in turn, mended afterwards."""
    for table in walled.tables:
        for breach in BREACHES:
            await walled.owner.execute(breach.format(table))
            assert await walled.faults() == {table}, f"{breach.format(table)} goes unnoticed"
            await walled.owner.execute(MENDED.format(table))
            await walled.put_canaries()
    assert await walled.faults() == set()


@pytest.mark.promise("TENANCY-1")
async def test_a_table_that_is_added_without_a_wall_is_named(walled: Walled) -> None:
    app = await walled.app_role()
    await walled.owner.execute(
        f'CREATE TABLE forgotten (tenant_id bigint NOT NULL); GRANT SELECT, UPDATE ON forgotten TO "{app}"'
    )
    walled.tables.append("forgotten")
    await walled.put_canaries()
    assert await walled.faults() == {"forgotten"}
