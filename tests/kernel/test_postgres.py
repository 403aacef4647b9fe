"""Transactions on a real server: the tenant's walls, what happens to them under reuse, failure and cancellation, and replays."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from groundswell.kernel import errors, postgres
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestIdReused, RequestKey, RequestStillRuns
from groundswell.kernel.postgres.migrations import role_password

from .conftest import KEY

ALICE, BOB = Context(tenant=7), Context(tenant=8)


async def add(
    database: postgres.Database, context: Context, id_: int, body: str = "mine", tenant: int | None = None
) -> None:
    async with database.tenant_tx(context) as tx:
        await tx.execute("INSERT INTO notes VALUES ($1, $2, $3)", tx.tenant if tenant is None else tenant, id_, body)


async def ids_seen(database: postgres.Database, context: Context) -> list[int]:
    async with database.tenant_tx(context) as tx:
        return [row["id"] for row in await tx.fetch("SELECT id FROM notes ORDER BY id")]


@pytest.mark.promise("TENANCY-1")
async def test_a_tenant_sees_and_writes_its_own_rows_only(database: postgres.Database) -> None:
    await add(database, ALICE, 1)
    await add(database, BOB, 2)
    assert (await ids_seen(database, ALICE), await ids_seen(database, BOB)) == ([1], [2])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await add(database, ALICE, 3, tenant=BOB.tenant)
    async with database.tenant_tx(ALICE) as tx:
        assert await tx.execute("UPDATE notes SET body = 'x'") == 1
        assert await tx.execute("DELETE FROM notes WHERE tenant_id = $1", BOB.tenant) == 0


@pytest.mark.promise("TENANCY-1")
async def test_with_no_tenant_set_there_are_no_rows_and_no_writes(database: postgres.Database) -> None:
    """Also after a local setting ended on the same connection, when it reads as '' and not as NULL."""
    await add(database, ALICE, 1)
    async with database.platform_tx() as tx:
        assert await tx.fetch("SELECT * FROM notes") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.platform_tx() as tx:
            await tx.execute("INSERT INTO notes VALUES (7, 9, 'x')")


@pytest.mark.promise("TENANCY-1")
async def test_the_owner_of_the_tables_is_held_too(
    database: postgres.Database, postgres_dsn: str, service_name: str
) -> None:
    """A table's owner passes over policies unless they are FORCEd."""
    await add(database, ALICE, 1)
    assert await _seen_by_owner(postgres_dsn, service_name) == 0


@pytest.mark.promise("TENANCY-1")
async def test_the_check_of_the_walls_fails_when_one_is_taken_down(
    database: postgres.Database, postgres_dsn: str, service_name: str, app_dsn: str
) -> None:
    """The control: without FORCE the owner sees rows; without the policy nobody does; without row security everybody."""
    await add(database, ALICE, 1)
    await _as_owner(postgres_dsn, service_name, "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")
    assert await _seen_by_owner(postgres_dsn, service_name) == 1
    await _as_owner(postgres_dsn, service_name, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    assert await ids_seen(database, BOB) == [1]
    await _as_owner(
        postgres_dsn, service_name, "DROP POLICY tenant_isolation ON notes; ALTER TABLE notes ENABLE ROW LEVEL SECURITY"
    )
    assert await ids_seen(database, ALICE) == []


@pytest.mark.promise("TENANCY-2")
async def test_a_reused_connection_carries_no_tenant_over(app_dsn: str, database: postgres.Database) -> None:
    from groundswell.kernel import clock, ids

    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock()), connections_max=1) as single:
        await add(single, ALICE, 1)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # what fails is the transaction as a whole
            async with single.tenant_tx(ALICE) as tx:
                await tx.fetch("SELECT 1")
                raise ZeroDivisionError
        assert await ids_seen(single, BOB) == []
        async with single.platform_tx() as tx:
            assert await tx.fetchval("SELECT current_setting('app.tenant_id', true)") in ("", None)


@pytest.mark.promise("TENANCY-2")
async def test_a_cancelled_transaction_leaves_nothing_behind(app_dsn: str, database: postgres.Database) -> None:
    from groundswell.kernel import clock, ids

    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock()), connections_max=1) as single:
        begun = asyncio.Event()

        async def hang() -> None:
            async with single.tenant_tx(ALICE) as tx:
                await tx.execute("INSERT INTO notes VALUES (7, 5, 'x')")
                begun.set()
                await tx.fetch("SELECT pg_sleep(30)")

        task = asyncio.create_task(hang())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ids_seen(single, ALICE) == []


async def test_a_call_without_a_tenant_gets_no_transaction(database: postgres.Database) -> None:
    with pytest.raises(errors.Unauthenticated):
        async with database.tenant_tx(Context()):
            pass


@dataclass(frozen=True)
class Note:
    id: int
    tags: tuple[str, ...] = ()


@pytest.mark.promise("GATEWAY-11")
async def test_the_same_request_again_gets_the_same_answer_and_another_one_is_refused(
    database: postgres.Database,
) -> None:
    key = RequestKey("r1", b"digest")
    made = []
    for _ in range(3):
        async with database.tenant_tx(ALICE) as tx:
            answered = await tx.replayed(key, Note)
            made.append(answered or await tx.answer(key, Note(1, ("a", "b"))))
    assert made == [Note(1, ("a", "b"))] * 3
    with pytest.raises(RequestIdReused):
        async with database.tenant_tx(ALICE) as tx:
            await tx.replayed(RequestKey("r1", b"other"), Note)
    async with database.tenant_tx(BOB) as tx:
        assert await tx.replayed(key, Note) is None


@pytest.mark.promise("GATEWAY-11")
async def test_of_two_requests_with_one_id_at_once_the_second_is_told_to_wait(database: postgres.Database) -> None:
    key = RequestKey("r2", b"digest")
    async with database.tenant_tx(ALICE) as first:
        assert await first.replayed(key, Note) is None
        with pytest.raises(RequestStillRuns):
            async with database.tenant_tx(ALICE) as second:
                await second.replayed(key, Note)


@pytest.mark.promise("GATEWAY-11")
async def test_a_request_id_is_new_again_after_a_day_and_old_answers_go(database: postgres.Database) -> None:
    keys = [RequestKey(f"r{n}", b"digest") for n in range(30)]
    async with database.tenant_tx(ALICE) as tx:
        for key in keys:
            await tx.answer(key, Note(1))
        await tx.execute("UPDATE answers SET answered = now() - interval '24 hours' WHERE request_id <> 'r0'")
    async with database.tenant_tx(ALICE) as tx:
        assert await tx.replayed(keys[0], Note) == Note(1)
        assert await tx.replayed(keys[1], Note) is None
        await tx.answer(keys[1], Note(2))
        assert await tx.replayed(keys[1], Note) == Note(2)
        assert await tx.fetchval("SELECT count(*) FROM answers") == 10
        await tx.answer(RequestKey("r31", b"digest"), Note(3))
        assert await tx.fetchval("SELECT count(*) FROM answers") == 3


async def test_a_migration_that_changed_after_it_was_applied_is_refused(
    postgres_dsn: str, service_name: str, migrations: Path, app_dsn: str
) -> None:
    (migrations / "001_notes.sql").write_text("-- another text\n")
    with pytest.raises(postgres.MigrationFailed, match=r"001_notes\.sql was applied with another text"):
        await postgres.migrate(postgres_dsn, service_name, migrations, KEY)


async def test_a_migration_that_fails_is_named_and_leaves_nothing(
    postgres_dsn: str, service_name: str, migrations: Path, app_dsn: str
) -> None:
    (migrations / "002_bad.sql").write_text("CREATE TABLE half (id int); SELECT nonsense;")
    with pytest.raises(postgres.MigrationFailed, match=r"002_bad\.sql failed"):
        await postgres.migrate(postgres_dsn, service_name, migrations, KEY)
    connection = await _owner(postgres_dsn, service_name)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    await connection.close()


async def test_many_processes_may_migrate_at_once(postgres_dsn: str, service_name: str, migrations: Path) -> None:
    dsns = await asyncio.gather(*(postgres.migrate(postgres_dsn, service_name, migrations, KEY) for _ in range(6)))
    assert len(set(dsns)) == 1


async def test_an_absent_server_is_unavailable_at_once() -> None:
    from groundswell.kernel import clock, ids

    async with postgres.opened("postgresql://x:y@127.0.0.1:1/none", ids.Ids(clock.SystemClock())) as nobody:
        with pytest.raises(errors.Unavailable) as away:
            async with nobody.platform_tx():
                pass
    assert away.value.retry_after_s == 1.0


async def _owner(admin_dsn: str, service: str) -> asyncpg.Connection:
    from groundswell.kernel.postgres.migrations import dsn_of

    owner = f"gs_{service}_owner"
    return await asyncpg.connect(dsn_of(admin_dsn, f"gs_{service}", owner, role_password(owner, KEY)))


async def _as_owner(admin_dsn: str, service: str, statement: str) -> None:
    connection = await _owner(admin_dsn, service)
    await connection.execute(statement)
    await connection.close()


async def _seen_by_owner(admin_dsn: str, service: str) -> Any:
    connection = await _owner(admin_dsn, service)
    try:
        return await connection.fetchval("SELECT count(*) FROM notes")
    finally:
        await connection.close()
