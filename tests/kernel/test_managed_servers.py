"""A server whose administrator is no superuser, as most managed ones have it."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from groundswell.kernel import clock, ids, postgres
from groundswell.kernel.postgres import migrations
from groundswell.kernel.postgres.migrations import dsn_of
from tests.kernel.conftest import KEY
from tests.kernel.test_postgres import ALICE, BOB, add, ids_seen


@pytest.fixture
async def superuser(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn_of(postgres_dsn, "postgres"))
    yield connection
    await connection.close()


@pytest.fixture
async def managed(superuser: asyncpg.Connection, postgres_dsn: str, service_name: str) -> str:
    """The address for a role that may create databases and roles, and nothing else."""
    name = f"admin_{service_name}"
    await superuser.execute(f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD 'managed'")
    return dsn_of(postgres_dsn, "postgres", name, "managed")


@pytest.mark.promise("TENANCY-1")
async def test_who_may_create_databases_and_roles_may_migrate_again_and_again_behind_the_same_walls(
    managed: str, service_name: str, migrations: Path
) -> None:
    for _ in range(2):
        app_dsn = await postgres.migrate(managed, service_name, migrations, KEY)
    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock()), connections_max=2) as database:
        await add(database, ALICE, 1)
        await add(database, BOB, 2)
        assert (await ids_seen(database, ALICE), await ids_seen(database, BOB)) == ([1], [2])


@pytest.mark.promise("TENANCY-1")
async def test_a_role_that_was_given_more_is_brought_back_by_who_may_and_refused_by_who_may_not(
    superuser: asyncpg.Connection, postgres_dsn: str, managed: str, service_name: str, migrations: Path
) -> None:
    """An app role that passes over row-level security serves nobody."""
    await postgres.migrate(managed, service_name, migrations, KEY)
    app = f"gs_{service_name}_app"
    await superuser.execute(f'ALTER ROLE "{app}" BYPASSRLS')
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await postgres.migrate(managed, service_name, migrations, KEY)
    await postgres.migrate(postgres_dsn, service_name, migrations, KEY)
    assert not await superuser.fetchval("SELECT rolbypassrls FROM pg_roles WHERE rolname = $1", app)


@pytest.mark.parametrize(
    ("major", "minor", "serves"),
    [(14, 30, False), (15, 13, False), (15, 14, True), (17, 5, False), (18, 0, True), (19, 0, True)],
)
def test_a_server_that_shows_rows_through_its_statistics_is_refused_with_what_to_take(
    major: int, minor: int, serves: bool
) -> None:
    version = asyncpg.types.ServerVersion(major, minor, 0, "final", 0)
    if serves:
        migrations._require_version(version)
    else:
        with pytest.raises(postgres.MigrationFailed, match=rf"PostgreSQL {major}\.{minor} .* Use 18\.0, 17\.6"):
            migrations._require_version(version)
