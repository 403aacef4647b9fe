"""The pool of one service's database, and transactions out of it.

The tenant is set inside the transaction that uses it and is gone with it, so a connection that is reused, fails or is cancelled
never carries it on. What the driver raises becomes an error of `kernel.errors` here and nowhere else.

A transaction wants its connection no longer than it lasts, so a proxy that pools transactions may stand before the server. What wants one
for longer (migrations, the relay's lock) goes to the server itself, at `Database.dsn`.

A server may also be silent: frozen, or behind a network that swallows what is sent. A transaction ends a moment before its caller's time
does, so that the caller hears what is wrong and when to come again, instead of that its time is over.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import asyncpg

from groundswell.kernel import errors, failpoints
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.ids import Ids
from groundswell.kernel.postgres.migrations import AWAY, MigrationWaits
from groundswell.kernel.postgres.transaction import Tx

T = TypeVar("T")

log = logging.getLogger(__name__)

ACQUIRE_S_MAX = 2.0
RECONNECT_S = 0.1
COMMAND_S_MAX = 10.0
CLOSE_S_MAX = 5.0
TELLING_S = 0.5
"""What a transaction leaves of its caller's time: for its ROLLBACK, and for the way of the answer."""
ROLLBACK_S_MAX = 0.2
POSITION_S_MAX = 1.0
"""Longest wait for the position after a COMMIT, whose caller may have less time left."""
_POSITION = "SELECT pg_current_wal_insert_lsn()::text"
GONE = (*AWAY, MigrationWaits)
"""What may pass: a server that is away or cannot work, and the lock of another migration."""
_LOST = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    ConnectionError,
)
"""Who ends a connection, not what was asked over it."""
_LOST_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


class Database:
    """One service's database as its app role sees it; `Unavailable` until `prepare` has brought it to this version."""

    def __init__(self, pool: asyncpg.Pool, ids: Ids, dsn: str, *, prepared: bool = True) -> None:
        self._pool = pool
        self._ids = ids
        self._prepared = prepared
        self.dsn = dsn
        """The server's own address, whatever proxy transactions go through."""
        self.outbox_written = asyncio.Event()
        """Set after each commit that published; the relay of this process waits for it."""
        self.tells_position = False
        """Whether callers hear how far the log was after their transaction, a round trip more: only where replicas are read."""

    async def prepare(self, migrate: Callable[[], Awaitable[object]]) -> bool:
        """Migrates; whether it did, False while the server is away or another process migrates. Raises `MigrationFailed`."""
        try:
            await migrate()
        except GONE as error:
            log.warning("a database waits for its server: %s: %s", type(error).__name__, error)
            return False
        self._prepared = True
        return True

    @asynccontextmanager
    async def tenant_tx(self, context: Context, *, read_only: bool = False) -> AsyncIterator[Tx]:
        """A transaction in the tenant of `context`; raises `Unauthenticated` when it has none.

        Commits when the block ends, rolls back when it raises. Raises `Unavailable` when the server is away or silent until shortly
        before the deadline of `context`, `Conflict` when a concurrent transaction won.
        """
        tenant = context.require_tenant()
        begin = f"BEGIN{' READ ONLY' * read_only}; SELECT set_config('app.tenant_id', '{tenant:d}', true)"
        reached = context.reached if self.tells_position else None
        async with self._transaction(begin, tenant, context.deadline_s, reached, writes=not read_only) as tx:
            yield tx

    @asynccontextmanager
    async def platform_tx(self, deadline_s: float | None = None) -> AsyncIterator[Tx]:
        """A transaction with no tenant: it sees no row of any tenant's table. `deadline_s` is the one of a caller's context."""
        async with self._transaction("BEGIN", 0, deadline_s) as tx:
            yield tx

    @asynccontextmanager
    async def _transaction(
        self,
        begin: str,
        tenant: int,
        deadline_s: float | None,
        reached: Reached | None = None,
        *,
        writes: bool = True,
    ) -> AsyncIterator[Tx]:
        if not self._prepared or left_s(deadline_s) <= 0:
            raise _unavailable()
        try:
            connection = await self._begun(begin, deadline_s)
        except BaseException as error:
            if (translated := _translated(error, writes=writes)) is None:
                raise
            raise translated from error
        tx = Tx(connection, tenant, self._ids)
        try:
            async with asyncio.timeout(None if deadline_s is None else left_s(deadline_s)):
                yield tx
                await connection.execute("COMMIT")
            if tx.published:
                self.outbox_written.set()
            if tx.answered:
                failpoints.reach("postgres.after_answer")
            if reached is not None:
                ask = partial(connection.fetchval, _POSITION)
                reached.position = await _answered(connection, ask, position_s(deadline_s)) or ""
        except BaseException as error:
            await _answered(connection, partial(connection.execute, "ROLLBACK"), ROLLBACK_S_MAX)
            if (translated := _translated(error, writes=writes)) is None:
                raise
            raise translated from error
        finally:
            await self._pool.release(connection)

    async def _begun(self, begin: str, deadline_s: float | None) -> asyncpg.Connection:
        """A connection out of the pool, in a transaction. One that is lost before that, as when the server was started anew or a proxy has
        too much to do, is replaced: nothing was asked of it yet."""
        until_s = time.monotonic() + min(ACQUIRE_S_MAX, left_s(deadline_s))
        while True:
            try:
                connection = await self._pool.acquire(timeout=until_s - time.monotonic())
                try:
                    async with asyncio.timeout(None if deadline_s is None else left_s(deadline_s)):
                        await connection.execute(begin)
                    return connection
                except BaseException:
                    await _answered(connection, partial(connection.execute, "ROLLBACK"), ROLLBACK_S_MAX)
                    await self._pool.release(connection)
                    raise
            except _LOST as error:
                if isinstance(error, ConnectionRefusedError) or time.monotonic() + RECONNECT_S >= until_s:
                    raise
            await asyncio.sleep(RECONNECT_S)


def left_s(deadline_s: float | None) -> float:
    """How long a transaction, or a wait for one, may take: at least half of what is left, for calls that have little."""
    if deadline_s is None:
        return math.inf
    rest_s = deadline_s - time.monotonic()
    return rest_s - min(TELLING_S, rest_s / 2)


def position_s(deadline_s: float | None) -> float:
    """How long a position is waited for: half of what the transaction has left of its caller's time, which the answer needs too."""
    return POSITION_S_MAX if deadline_s is None else min(POSITION_S_MAX, (deadline_s - time.monotonic()) / 2)


async def _answered(connection: asyncpg.Connection, ask: Callable[[], Awaitable[T]], seconds_max: float) -> T | None:
    """What the server says to something beside the transaction; when it says nothing, None, and the connection is closed.

    A cancellation closes the connection as well, and goes on.
    """
    try:
        async with asyncio.timeout(seconds_max):
            return await ask()
    except BaseException as error:
        with suppress(asyncpg.InterfaceError):  # a connection that the server broke is closed already
            connection.terminate()
        if not isinstance(error, (asyncpg.PostgresError, *GONE)):
            raise
        return None


def _translated(error: BaseException, *, writes: bool) -> errors.Error | None:
    """What a driver's error means to the caller; None for one of ours, a broken constraint, and mistakes."""
    # A server that only reads what is to be written is one after a failover; if nothing was to be written, the mistake is ours.
    demoted = writes and isinstance(error, asyncpg.ReadOnlySQLTransactionError)
    if demoted or isinstance(error, GONE):
        return _unavailable()
    if isinstance(error, (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)):
        return errors.Invalid("A text holds the character U+0000, which cannot be kept. Leave it out.")
    if isinstance(error, _LOST_RACE):
        return errors.Conflict("A concurrent change won. Try again.", retry_after_s=0.1)
    return None


def _unavailable() -> errors.Unavailable:
    return errors.Unavailable("The database does not answer. Try again in a second.")


@asynccontextmanager
async def opened(
    dsn: str, ids: Ids, *, proxy_dsn: str = "", connections_max: int = 10, prepared: bool = True
) -> AsyncIterator[Database]:
    """The database at `dsn` (the app role's), `prepared` when it is of this version; transactions go by `proxy_dsn` where one is given.

    Connections are made when first needed and closed after five idle minutes. Behind a proxy each transaction may get another connection
    of the server's, on which no statement of an earlier one is prepared, or another client's under the same name: none has a name there.
    """
    named_statements = {"statement_cache_size": 0} if proxy_dsn else {}
    pool = await asyncpg.create_pool(
        proxy_dsn or dsn,
        min_size=0,
        max_size=connections_max,
        command_timeout=COMMAND_S_MAX,
        reset=_unreset,
        max_inactive_connection_lifetime=300,
        **named_statements,
    )
    try:
        yield Database(pool, ids, dsn, prepared=prepared)
    finally:
        with suppress(TimeoutError):  # the pool has ended the connections without the server's leave then
            async with asyncio.timeout(CLOSE_S_MAX):
                await pool.close()


async def _unreset(connection: asyncpg.Connection) -> None:
    """Nothing outlives a transaction here, so the pool's own reset would only cost a round trip."""
