"""Transactions through PgBouncer, which lends one connection of the server's to each of them in turn.

Goal: a tenant holds where a connection is another client's a moment later. Method: clients share a single connection of the server's, as
its process id shows; controls that hold their tenant or their statements for longer than a transaction fail there.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from groundswell.engines import ports, running
from groundswell.engines.children import Child
from groundswell.engines.engine import Engine, Folders
from groundswell.engines.postgres import Postgres
from groundswell.kernel import clock, errors, ids, postgres
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay
from groundswell.kernel.context import Context, Reached
from tests.pooler import Pooler

from .conftest import KEY
from .publishing import event, read
from .publishing import running as beside
from .test_postgres import ALICE, BOB, add, ids_seen

CLIENTS = 12


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[Child]:
    engine.prepare(print)
    child = await running.start(engine)
    assert child is not None
    try:
        yield child
    finally:
        await child.stop()


@asynccontextmanager
async def by(address: str, app_dsn: str, service: str, *, connections_max: int = 4) -> AsyncIterator[postgres.Database]:
    """The service's database by a proxy there, as a process of its own opens it."""
    async with postgres.opened(
        app_dsn,
        ids.Ids(clock.SystemClock()),
        proxy_dsn=postgres.app_dsn(address, service, KEY),
        connections_max=connections_max,
    ) as opened:
        yield opened


def pooler(folder: Path, server: str, service: str, **settings: str) -> Pooler:
    """A proxy with one connection to the server for all clients of the service."""
    users = [postgres.proxy_user(service, KEY)]
    return Pooler(Folders.under(folder, "pgbouncer"), ports.draw(1)[0], server, users, **settings)


@pytest.fixture
async def proxy(tmp_path: Path, app_dsn: str, service_name: str) -> AsyncIterator[str]:
    """The address of such a proxy."""
    engine = pooler(tmp_path, app_dsn, service_name)
    async with started(engine):
        yield engine.address


@pytest.fixture
async def clients(proxy: str, app_dsn: str, service_name: str) -> AsyncIterator[list[postgres.Database]]:
    """Processes of the service, all through that proxy."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(by(proxy, app_dsn, service_name)) for _ in range(CLIENTS)]


async def backend(database: postgres.Database, context: Context | None = None) -> tuple[int, int]:
    """Which process of the server's serves a transaction, and how many notes it sees there."""
    opening = database.platform_tx() if context is None else database.tenant_tx(context)
    async with opening as tx:
        return await tx.fetchval("SELECT pg_backend_pid()"), await tx.fetchval("SELECT count(*) FROM notes")


@pytest.mark.promise("TENANCY-2")
async def test_with_no_tenant_set_there_are_no_rows_behind_another_clients_transaction(
    clients: list[postgres.Database],
) -> None:
    one, other, *_ = clients
    await add(one, ALICE, 1)
    seen = [await backend(one, ALICE), await backend(other), await backend(other, BOB), await backend(one)]
    assert len({pid for pid, _ in seen}) == 1, "they share a connection of the server's"
    assert [count for _, count in seen] == [1, 0, 0, 0]


async def test_a_tenant_that_is_set_for_longer_than_a_transaction_is_the_next_clients_too(
    clients: list[postgres.Database], proxy: str, service_name: str
) -> None:
    """The control: what `tenant_tx` does not do leaks, so the tests beside this one would notice it."""
    await add(clients[0], ALICE, 1)
    connection = await asyncpg.connect(postgres.app_dsn(proxy, service_name, KEY), statement_cache_size=0)
    await connection.execute(f"SELECT set_config('app.tenant_id', '{ALICE.tenant}', false)")
    await connection.close()
    _, seen = await backend(clients[1])
    assert seen == 1


@pytest.mark.promise("TENANCY-2")
async def test_tenants_who_share_one_connection_of_the_server_see_their_own_rows_whatever_befalls_others(
    clients: list[postgres.Database],
) -> None:
    """Transactions that end well, fail, time out and are cancelled, from many processes at once."""
    tenants = [Context(tenant=100 + n) for n in range(CLIENTS)]

    async def live(database: postgres.Database, context: Context) -> None:
        for turn in range(6):
            await add(database, context, turn)
            assert await ids_seen(database, context) == list(range(turn + 1))
            await mishap(database, context, turn)
            async with database.platform_tx() as tx:
                assert await tx.fetch("SELECT * FROM notes") == []

    await asyncio.gather(*(live(*each) for each in zip(clients, tenants, strict=True)))
    for context in tenants:
        async with clients[0].tenant_tx(context) as tx:
            rows = await tx.fetch("SELECT tenant_id, id FROM notes ORDER BY id")
        assert [tuple(row) for row in rows] == [(context.tenant, turn) for turn in range(6)]


async def mishap(database: postgres.Database, context: Context, turn: int) -> None:
    """A transaction that leaves nothing behind: one that fails, one that is refused, one that takes too long, one that is cancelled."""
    begun = asyncio.Event()

    async def hang(seconds: float) -> None:
        async with database.tenant_tx(context) as tx:
            await tx.execute("INSERT INTO notes VALUES ($1, 99, 'x')", tx.tenant)
            begun.set()
            async with asyncio.timeout(seconds):
                await tx.fetch("SELECT pg_sleep(30)")

    if turn % 4 == 0:
        with suppress(ZeroDivisionError):
            async with database.tenant_tx(context) as tx:
                await tx.execute("INSERT INTO notes VALUES ($1, 99, 'x')", tx.tenant)
                raise ZeroDivisionError
    elif turn % 4 == 1:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await add(database, context, 99, tenant=context.require_tenant() + 1)
    elif turn % 4 == 2:
        with pytest.raises(errors.Unavailable):
            await hang(0.01)
        assert begun.is_set()
    else:
        task = asyncio.create_task(hang(30))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.promise("TENANCY-2")
async def test_who_waits_in_vain_for_the_servers_connection_hears_so_in_time_and_leaves_nothing_there(
    clients: list[postgres.Database],
) -> None:
    """Its BEGIN with its tenant is in the proxy's hands by then, and must not become the next client's."""
    one, *others = clients
    await add(one, ALICE, 1)
    for each in others:
        await ids_seen(each, BOB)
    async with one.tenant_tx(BOB) as held:
        await held.execute("INSERT INTO notes VALUES (8, 2, 'x')")
        hurried = replace(ALICE, deadline_s=time.monotonic() + 1)
        ended = await asyncio.gather(*(ids_seen(each, hurried) for each in others), return_exceptions=True)
        assert {type(each) for each in ended} == {errors.Unavailable}
    for each in clients:
        assert (await backend(each))[1] == 0
        assert await ids_seen(each, BOB) == [2]


async def test_transactions_prepare_no_statement_that_the_next_connection_of_the_server_would_not_know(
    clients: list[postgres.Database], proxy: str, service_name: str, database: postgres.Database
) -> None:
    """The control is a client that names its statements, as directly at the server."""
    async with postgres.opened(
        postgres.app_dsn(proxy, service_name, KEY), ids.Ids(clock.SystemClock()), connections_max=1
    ) as named:
        for client in (clients[0], named):
            await add(client, ALICE, ids.Ids(clock.SystemClock()).next())
        pid, _ = await backend(named)
        async with database.platform_tx() as tx:
            assert await tx.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        await add(clients[0], ALICE, 1)
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await add(named, ALICE, 2)


async def test_events_leave_and_positions_are_told_of_transactions_through_a_proxy(
    clients: list[postgres.Database], kafka_address: str, topic: str, producer: Producer
) -> None:
    """The relay's lock lasts longer than a transaction, and is held at the server itself."""
    for each in clients:
        each.tells_position = True

    async def publish(database: postgres.Database, key: str) -> None:
        async with database.tenant_tx(ALICE) as tx:
            await tx.publish(event(topic, key), event(topic, f"{key}'"))

    async def hear_position(database: postgres.Database) -> None:
        told = replace(ALICE, reached=Reached())
        while told.reached == Reached():  # a busy machine may take longer than a position is waited for
            await ids_seen(database, told)

    async with beside(relay(clients[0], producer), relay(clients[1], producer)), asyncio.timeout(30):
        await asyncio.gather(*(publish(each, f"k{n}") for n, each in enumerate(clients)), *map(hear_position, clients))
        records = await read(kafka_address, topic, 2 * CLIENTS)
    assert {record.key.decode() for record in records} == {f"k{n}{mark}" for n in range(CLIENTS) for mark in ("", "'")}


async def test_a_proxy_that_is_away_is_unavailable_and_serves_again_upon_its_return(
    app_dsn: str, service_name: str, tmp_path: Path
) -> None:
    engine = pooler(tmp_path, app_dsn, service_name)
    async with by(engine.address, app_dsn, service_name) as client:
        async with started(engine):
            await add(client, ALICE, 1)
        for _ in range(3):
            with pytest.raises(errors.Unavailable):
                await add(client, ALICE, 2)
        async with started(engine):
            await returned(client)
            assert await ids_seen(client, ALICE) == [1]


async def test_a_server_that_is_away_behind_a_proxy_is_unavailable_in_time_and_serves_again_upon_its_return(
    engines_home: Path, service_name: str, migrations: Path, tmp_path: Path
) -> None:
    """Callers have two seconds, within a transaction and before one; the proxy alone would let them wait for two minutes."""
    server = Postgres(Folders.under(engines_home, f"postgres-{service_name}"), *ports.draw(1))
    async with AsyncExitStack() as stack:
        async with started(server):
            app_dsn = await postgres.migrate(server.address, service_name, migrations, KEY)
            engine = pooler(tmp_path, app_dsn, service_name)
            await stack.enter_async_context(started(engine))
            client = await stack.enter_async_context(by(engine.address, app_dsn, service_name))
            stranger = await stack.enter_async_context(by(engine.address, app_dsn, service_name))
            await add(client, ALICE, 1)
        for each in (client, stranger, client, stranger):
            with pytest.raises(errors.Unavailable):
                await asyncio.wait_for(add(each, replace(ALICE, deadline_s=time.monotonic() + 2), 2), 20)
        async with started(server):
            for each in (client, stranger):
                await returned(each)
                assert await ids_seen(each, ALICE) == [1]


@pytest.mark.parametrize("settings", [{"max_client_conn": "1"}, {"query_wait_timeout": "1"}])
async def test_what_a_full_proxy_says_is_unavailable(
    app_dsn: str, service_name: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Too many clients, and too long a wait for a connection: it says so in its own words."""
    engine = pooler(tmp_path, app_dsn, service_name, **settings)
    async with started(engine), by(engine.address, app_dsn, service_name) as client:
        await returned(client)  # it may count who looked whether it had started
        async with client.tenant_tx(ALICE) as held:
            with pytest.raises(errors.Unavailable) as full:
                await add(client, ALICE, 1)
            assert isinstance(full.value.__cause__, asyncpg.PostgresError), "not our own time was over"
            await held.execute("INSERT INTO notes VALUES (7, 2, 'x')")
        await returned(client)
        assert await ids_seen(client, ALICE) == [2]


async def returned(database: postgres.Database) -> None:
    """Waits until the database answers again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await ids_seen(database, ALICE)
            except errors.Unavailable:
                await asyncio.sleep(0.05)
            else:
                return
