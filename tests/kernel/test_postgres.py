"""Transactions on a real server: the tenant's walls, what happens to them under reuse, failure and cancellation, and replays."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from groundswell.api.tenancy.v1 import tenancy_events_pb2
from groundswell.kernel import bus, clock, errors, ids, postgres
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.idempotency import RequestIdReused, RequestKey, RequestStillRuns
from groundswell.kernel.postgres.database import POSITION_S_MAX, position_s
from groundswell.kernel.postgres.migrations import dsn_of, role_password

from .conftest import KEY
from .wire import Wire

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


@asynccontextmanager
async def through(wire: Wire, app_dsn: str) -> AsyncIterator[postgres.Database]:
    """The database by a wire, told to say positions as where replicas are read."""
    async with wire.to(app_dsn) as dsn, postgres.opened(dsn, ids.Ids(clock.SystemClock())) as opened:
        opened.tells_position = True
        yield opened


async def test_a_commit_stands_although_the_position_behind_it_is_not_told(
    database: postgres.Database, app_dsn: str
) -> None:
    """Else its caller is told 503 and does again what is done, and its events wait for the relay's next look."""
    wire, told = Wire(b"pg_current_wal_insert_lsn", "break"), replace(ALICE, reached=Reached())
    async with through(wire, app_dsn) as broken:
        async with broken.tenant_tx(told) as tx:
            await tx.execute("INSERT INTO notes VALUES (7, 1, 'x')")
            await tx.publish(bus.Outgoing("t", "k", tenancy_events_pb2.TenantCreated()))
        assert wire.met.is_set()
        assert broken.outbox_written.is_set()
        assert told.reached == Reached()
        assert await ids_seen(broken, ALICE) == [1], "the broken connection is not used again"


def test_a_position_is_waited_for_no_longer_than_its_caller_has_time_for_it() -> None:
    """Its transaction may have taken all but a quarter of a second."""
    assert position_s(None) == position_s(time.monotonic() + 60) == POSITION_S_MAX
    for seconds in (0.25, 1.0):
        assert position_s(time.monotonic() + seconds) <= seconds / 2 < POSITION_S_MAX


async def test_a_connection_that_breaks_within_a_transaction_is_unavailable(app_dsn: str) -> None:
    wire = Wire(b"INSERT INTO notes", "break")
    async with through(wire, app_dsn) as broken:
        with pytest.raises(errors.Unavailable):
            await add(broken, ALICE, 1)


@pytest.mark.parametrize(
    "words",
    [b"\x04\xd2\x16\x2f", b"database\0", b"BEGIN"],
    ids=["at the first word", "while it logs in", "as it begins"],
)
async def test_a_connection_that_is_lost_before_anything_was_asked_is_made_again_and_for_so_long_only(
    database: postgres.Database, app_dsn: str, words: bytes
) -> None:
    async with through(wire := Wire(words, "break", once=True), app_dsn) as broken:
        await add(broken, ALICE, 1)
        assert await ids_seen(broken, ALICE) == [1]
    assert wire.met.is_set()
    async with through(Wire(words, "break"), app_dsn) as broken:
        with pytest.raises(errors.Unavailable):
            await add(broken, ALICE, 2)


async def test_a_connection_used_between_the_servers_last_words_and_its_end_is_unavailable(
    database: postgres.Database, app_dsn: str
) -> None:
    """A server that is stopped says so and hangs up a moment later: the driver calls its use in between an internal error."""
    wire = Wire(b"never said", "break", lingers=True)
    async with through(wire, app_dsn) as lingering:
        async with lingering.platform_tx() as tx:
            backend = await tx.fetchval("SELECT pg_backend_pid()")
        async with database.platform_tx() as tx:
            await tx.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
        await asyncio.sleep(0)  # its last words are read
        with pytest.raises(errors.Unavailable):
            await add(lingering, ALICE, 1)
        wire.lingers = False
        await add(lingering, ALICE, 2)


async def test_a_cancellation_during_a_rollback_goes_on(app_dsn: str) -> None:
    """Else a consumer outlives its cancellation: what failed before is tried again without end."""
    wire = Wire(b"ROLLBACK", "hold")

    async def fail(database: postgres.Database) -> None:
        async with database.tenant_tx(ALICE):
            raise errors.Unavailable("Something else is away.")

    async with through(wire, app_dsn) as silent:
        task = asyncio.create_task(fail(silent))
        await wire.met.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_error_of_the_block_leaves_it_with_the_cause_that_it_had(database: postgres.Database) -> None:
    cause = ValueError("why")
    with pytest.raises(errors.Invalid) as failed:
        async with database.tenant_tx(ALICE):
            raise errors.Invalid("No.") from cause
    assert failed.value.__cause__ is cause


@pytest.mark.parametrize("state", ["53100", "53200", "53400", "57014", "57P01", "58030", "25006"])
async def test_what_blames_no_statement_is_unavailable_and_keeps_its_cause(
    database: postgres.Database, state: str
) -> None:
    """A full disk, no memory, an operator, I/O, a server that only reads since a failover: consumers wait, callers get 503."""
    with pytest.raises(errors.Unavailable) as failed:
        async with database.tenant_tx(ALICE) as tx:
            await tx.execute(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    assert isinstance(failed.value.__cause__, asyncpg.PostgresError)
    assert failed.value.__cause__.sqlstate == state


async def test_a_write_in_a_transaction_that_was_to_read_is_a_mistake(database: postgres.Database) -> None:
    """It would fail on every server and at every try."""
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.tenant_tx(ALICE, read_only=True) as tx:
            await tx.execute("DELETE FROM notes")


async def test_a_value_that_does_not_fit_is_a_mistake(database: postgres.Database) -> None:
    """A consumer that took it for an outage would try its event again for ever."""
    with pytest.raises(asyncpg.DataError, match="seven"):
        async with database.tenant_tx(ALICE) as tx:
            await tx.execute("SELECT $1::bigint", "seven")


async def test_a_text_with_a_zero_character_is_the_callers_mistake(database: postgres.Database) -> None:
    with pytest.raises(errors.Invalid, match="U\\+0000"):
        async with database.tenant_tx(ALICE) as tx:
            await tx.execute("SELECT $1::text", "a\0b")


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


async def test_a_start_does_not_wait_for_ever_for_a_migration_that_another_holds_up(
    postgres_dsn: str, service_name: str, migrations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: the process serves what it can and tries again, as while the server is away. Method: a session has the lock and keeps it."""

    async def migrate() -> None:
        await postgres.migrate(postgres_dsn, service_name, migrations, KEY, lock_s_max=0.2)

    vanished = await asyncpg.connect(dsn_of(postgres_dsn, "postgres"))
    app_dsn = postgres.app_dsn(postgres_dsn, service_name, KEY)
    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock()), prepared=False) as database:
        await vanished.execute("SELECT pg_advisory_lock($1)", postgres.migrations._LOCK)
        try:
            assert not await asyncio.wait_for(database.prepare(migrate), 30)
            assert "Another process has held the lock of migrations" in caplog.text
            with pytest.raises(errors.Unavailable):
                await add(database, ALICE, 1)
        finally:
            await vanished.close()
        assert await database.prepare(migrate)
        await add(database, ALICE, 1)


async def test_an_absent_server_is_unavailable_at_once() -> None:
    async with postgres.opened("postgresql://x:y@127.0.0.1:1/none", ids.Ids(clock.SystemClock())) as nobody:
        with pytest.raises(errors.Unavailable) as away:
            async with nobody.platform_tx():
                pass
    assert away.value.retry_after_s == 1.0


async def _owner(admin_dsn: str, service: str) -> asyncpg.Connection:
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
