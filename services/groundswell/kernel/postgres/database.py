"""The pool of one service's database, and transactions out of it.

The tenant is set inside the transaction that uses it and is gone with it, so a connection that is reused, fails or is cancelled
never carries it on. What the driver raises becomes an error of `kernel.errors` here and nowhere else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from groundswell.kernel import errors
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.ids import Ids
from groundswell.kernel.postgres.transaction import Tx

log = logging.getLogger(__name__)

ACQUIRE_S_MAX = 2.0
COMMAND_S_MAX = 10.0
_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
_GONE = (*_AWAY, asyncpg.InterfaceError)
_LOST_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


class Database:
    """One service's database as its app role sees it; `Unavailable` until `prepare` has brought it to this version."""

    def __init__(self, pool: asyncpg.Pool, ids: Ids, dsn: str, *, prepared: bool = True) -> None:
        self._pool = pool
        self._ids = ids
        self._prepared = prepared
        self.dsn = dsn
        self.outbox_written = asyncio.Event()
        """Set after each commit that published; the relay of this process waits for it."""
        self.tells_position = False
        """Whether callers hear how far the log was after their transaction, a round trip more: only where replicas are read."""

    async def prepare(self, migrate: Callable[[], Awaitable[object]]) -> bool:
        """Migrates; whether it did, False while the server is away. Raises `MigrationFailed`."""
        try:
            await migrate()
        except (TimeoutError, *_AWAY) as error:
            log.warning("a database waits for its server: %s", type(error).__name__)
            return False
        self._prepared = True
        return True

    @asynccontextmanager
    async def tenant_tx(self, context: Context, *, read_only: bool = False) -> AsyncIterator[Tx]:
        """A transaction in the tenant of `context`; raises `Unauthenticated` when it has none.

        Commits when the block ends, rolls back when it raises. Raises `Unavailable` when the server is away, `Conflict` when a
        concurrent transaction won.
        """
        tenant = context.require_tenant()
        begin = f"BEGIN{' READ ONLY' * read_only}; SELECT set_config('app.tenant_id', '{tenant:d}', true)"
        async with self._transaction(begin, tenant, context.reached if self.tells_position else None) as tx:
            yield tx

    @asynccontextmanager
    async def platform_tx(self) -> AsyncIterator[Tx]:
        """A transaction with no tenant: it sees no row of any tenant's table."""
        async with self._transaction("BEGIN", 0) as tx:
            yield tx

    @asynccontextmanager
    async def _transaction(self, begin: str, tenant: int, reached: Reached | None = None) -> AsyncIterator[Tx]:
        if not self._prepared:
            raise errors.Unavailable("The database does not answer. Try again in a second.")
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_S_MAX)
        except (TimeoutError, *_GONE) as error:
            raise errors.Unavailable("The database does not answer. Try again in a second.") from error
        tx = Tx(connection, tenant, self._ids)
        try:
            await connection.execute(begin)
            yield tx
            await connection.execute("COMMIT")
            if reached is not None:
                reached.position = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        except BaseException as error:
            await self._abandon(connection)
            raise _translated(error) from error
        await self._pool.release(connection)
        if tx.published:
            self.outbox_written.set()

    async def _abandon(self, connection: asyncpg.Connection) -> None:
        """Gives a connection back whose transaction failed: rolled back, or closed when even that fails or is cancelled."""
        try:
            await asyncio.wait_for(connection.execute("ROLLBACK"), 1.0)
        except (TimeoutError, asyncio.CancelledError, asyncpg.PostgresError, *_GONE):
            connection.terminate()
        await self._pool.release(connection)


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, (errors.Error, asyncpg.IntegrityConstraintViolationError)) or not isinstance(error, Exception):
        return error
    if isinstance(error, (TimeoutError, _GONE)):
        return errors.Unavailable("The database does not answer. Try again in a second.")
    if isinstance(error, _LOST_RACE):
        return errors.Conflict("A concurrent change won. Try again.", retry_after_s=0.1)
    return error


@asynccontextmanager
async def opened(dsn: str, ids: Ids, *, connections_max: int = 10, prepared: bool = True) -> AsyncIterator[Database]:
    """The database at `dsn` (the app role's), `prepared` when it is of this version.

    Connections are made when first needed and closed after five idle minutes.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections_max,
        command_timeout=COMMAND_S_MAX,
        reset=_unreset,
        max_inactive_connection_lifetime=300,
    )
    try:
        yield Database(pool, ids, dsn, prepared=prepared)
    finally:
        await asyncio.wait_for(pool.close(), 5.0)


async def _unreset(connection: asyncpg.Connection) -> None:
    """Nothing outlives a transaction here, so the pool's own reset would only cost a round trip."""
