"""Lists from a replica: no caller sees less than it has seen, and no replica's trouble is a caller's.

Goal: the rules of `kernel.postgres.replicas` on a real streaming replica. Method: its replay is paused, and who served a read is told
by the connection itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from groundswell.kernel import clock, errors, ids, postgres
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.postgres.replicas import WAIT_S_MAX
from tests.replica import paused

from .conftest import KEY
from .test_postgres import add
from .wire import Wire

ALICE, BOB = Context(tenant=7), Context(tenant=8)
ABSENT = "postgresql://127.0.0.1:1/postgres"


async def look(tx: postgres.Tx) -> tuple[str, list[int]]:
    """Who serves this read, and which notes it finds."""
    standby = await tx.fetchval("SELECT pg_is_in_recovery()")
    return "replica" if standby else "primary", [
        row["id"] for row in await tx.fetch("SELECT id FROM notes ORDER BY id")
    ]


@asynccontextmanager
async def reading(database: postgres.Database, *dsns: str, lag_s_max: float = 600.0) -> AsyncIterator[postgres.Reads]:
    """Reads of that database; a slow machine's lag is none of a test's that does not ask for it."""
    async with postgres.reading(database, dsns, ids.Ids(clock.SystemClock()), lag_s_max=lag_s_max) as reads:
        yield reads


@pytest.fixture
async def reads(database: postgres.Database, postgres_replica_dsn: str) -> AsyncIterator[postgres.Reads]:
    async with reading(database, postgres_replica_dsn) as opened:
        await settled(opened, database)
        yield opened


async def settled(reads: postgres.Reads, database: postgres.Database) -> Context:
    """Alice, having seen all that is committed, once the replica has that too and is not left alone any more."""
    seen = await after(database)
    async with asyncio.timeout(20):
        while (await reads.tenant(seen, look))[0] != "replica":
            await asyncio.sleep(0.05)
    return seen


async def after(database: postgres.Database, context: Context = ALICE) -> Context:
    """`context`, having seen all that is committed."""
    told = replace(context, reached=Reached())
    async with database.tenant_tx(told) as tx:
        await tx.execute("SELECT 1")
    assert told.reached is not None
    return replace(context, consistency=told.reached.position)


@pytest.mark.promise("LINKS-10")
async def test_a_caller_reads_its_own_writes_from_a_replica(database: postgres.Database, reads: postgres.Reads) -> None:
    for number in range(20):
        told = replace(ALICE, reached=Reached())
        await add(database, told, number)
        assert told.reached is not None
        _, found = await reads.tenant(replace(ALICE, consistency=told.reached.position), look)
        assert found == list(range(number + 1))
    assert await reads.tenant(await settled(reads, database), look) == ("replica", list(range(20)))


@pytest.mark.promise("LINKS-10")
async def test_a_replica_that_is_behind_what_the_caller_has_seen_is_passed_over(
    database: postgres.Database, reads: postgres.Reads, postgres_replica_dsn: str
) -> None:
    """The control is a caller that has seen nothing: it gets what the replica has."""
    async with paused(postgres_replica_dsn):
        await add(database, ALICE, 1)
        assert await reads.tenant(await after(database), look) == ("primary", [1])
        assert await reads.tenant(ALICE, look) == ("replica", [])
    await settled(reads, database)
    assert await reads.tenant(ALICE, look) == ("replica", [1])


@pytest.mark.promise("LINKS-10")
async def test_a_replica_that_is_too_far_behind_is_read_by_nobody(
    database: postgres.Database, reads: postgres.Reads, postgres_replica_dsn: str
) -> None:
    async with reading(database, postgres_replica_dsn, lag_s_max=0.0) as strict, paused(postgres_replica_dsn):
        await add(database, ALICE, 1)
        async with asyncio.timeout(10):  # until the replica has received it
            while (await strict.tenant(ALICE, look))[0] != "primary":
                await asyncio.sleep(0.01)
        assert await reads.tenant(ALICE, look) == ("replica", [])


@pytest.mark.promise("LINKS-10", "TENANCY-1")
async def test_a_replica_shows_a_tenant_its_own_rows_only_and_writes_nothing(
    database: postgres.Database, reads: postgres.Reads
) -> None:
    await add(database, ALICE, 1)
    await add(database, BOB, 2)
    seen = await settled(reads, database)
    assert await reads.tenant(seen, look) == ("replica", [1])
    assert await reads.tenant(replace(seen, tenant=BOB.tenant), look) == ("replica", [2])

    async def write(tx: postgres.Tx) -> int:
        return await tx.execute("DELETE FROM notes")

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reads.tenant(seen, write)


@pytest.mark.promise("LINKS-10")
async def test_a_replica_that_is_away_is_left_alone_and_the_next_one_or_the_primary_serves(
    database: postgres.Database, postgres_replica_dsn: str
) -> None:
    await add(database, ALICE, 1)
    async with reading(database, ABSENT) as without:
        assert await without.tenant(ALICE, look) == ("primary", [1])
    async with reading(database, ABSENT, postgres_replica_dsn) as one_of_two:
        await settled(one_of_two, database)
        assert {(await one_of_two.tenant(ALICE, look))[0] for _ in range(4)} == {"replica"}


async def test_a_replica_that_is_silent_leaves_the_primary_time_to_serve(
    database: postgres.Database, app_dsn: str
) -> None:
    """More than what a transaction leaves of its caller's time, which a slow query needs."""

    async def slow(tx: postgres.Tx) -> str:
        await tx.execute("SELECT pg_sleep(0.6)")
        return (await look(tx))[0]

    async with Wire(b"pg_is_in_recovery", "hold").to(app_dsn) as silent, reading(database, silent) as reads:
        assert await reads.tenant(replace(ALICE, deadline_s=time.monotonic() + 6), slow) == "primary"


@pytest.mark.parametrize(("seconds", "left_alone"), [(0.8, False), (8.0, True)])
async def test_a_caller_with_little_time_takes_no_replica_from_the_others(
    database: postgres.Database,
    reads: postgres.Reads,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    left_alone: bool,
) -> None:
    """What it asks takes longer than it has. The control is one with time: a replica that lets such a caller wait is left alone."""

    async def slow(tx: postgres.Tx) -> None:
        await tx.execute("SELECT pg_sleep(CASE WHEN pg_is_in_recovery() THEN 60 ELSE 0 END)")

    seen = await settled(reads, database)
    with suppress(errors.Unavailable):  # the primary may be too late for the hurried one
        await reads.tenant(replace(seen, deadline_s=time.monotonic() + seconds), slow)
    assert ("a replica is left alone" in caplog.text) == left_alone
    assert left_alone or (await reads.tenant(seen, look))[0] == "replica"


async def test_a_replica_that_only_lags_is_behind_however_little_time_its_caller_has(
    database: postgres.Database, reads: postgres.Reads, postgres_replica_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Less than a read waits for replay."""
    async with paused(postgres_replica_dsn):
        await add(database, ALICE, 1)
        seen = await after(database)
        with suppress(errors.Unavailable):
            await reads.tenant(replace(seen, deadline_s=time.monotonic() + WAIT_S_MAX), look)
        assert "a replica is left alone" not in caplog.text
        assert (await reads.tenant(ALICE, look))[0] == "replica"


@pytest.mark.promise("LINKS-10")
async def test_a_read_that_a_replica_cancels_is_done_by_the_primary(
    database: postgres.Database, reads: postgres.Reads
) -> None:
    """As replay does to queries that stand in its way."""
    await add(database, ALICE, 1)
    tries: list[str] = []

    async def cancelled_once(tx: postgres.Tx) -> tuple[str, list[int]]:
        served, found = await look(tx)
        tries.append(served)
        if served == "replica":
            await tx.fetch("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        return served, found

    seen = await settled(reads, database)
    assert await reads.tenant(seen, cancelled_once) == ("primary", [1])
    assert tries == ["replica", "primary"]


async def test_a_replica_that_has_not_heard_of_the_service_yet_refuses_nobody(
    postgres_dsn: str, postgres_replica_dsn: str, service_name: str, migrations: Path
) -> None:
    """Its database, its role and its tables come with replay."""
    async with paused(postgres_replica_dsn):
        dsn = await postgres.migrate(postgres_dsn, f"new{service_name}", migrations, KEY)
        async with (
            postgres.opened(dsn, ids.Ids(clock.SystemClock())) as database,
            reading(database, postgres_replica_dsn) as reads,
        ):
            assert await reads.tenant(ALICE, look) == ("primary", [])


async def test_a_server_that_follows_nobody_is_not_read_as_a_replica(
    database: postgres.Database, postgres_dsn: str
) -> None:
    """Such as one that was promoted: it may have gone another way since."""
    async with reading(database, postgres_dsn) as reads:
        assert await reads.tenant(ALICE, look) == ("primary", [])


async def test_without_replicas_no_transaction_asks_for_the_position(database: postgres.Database) -> None:
    async with reading(database) as reads:
        told = replace(ALICE, reached=Reached())
        await add(database, told, 1)
        assert told.reached == Reached()
        assert await reads.tenant(told, look) == ("primary", [1])
