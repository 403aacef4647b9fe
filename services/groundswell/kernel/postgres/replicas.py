"""Reads that decide no write, from streaming replicas where there are any.

A caller never sees less than it has seen: its context carries the position of the log that its last answer had reached, and a replica
that has not replayed that far is not read. Everything that stands against a replica (away, behind, promoted, a query that its replay
cancelled) sends the read to the primary, so replicas add no failure of their own.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
from prometheus_client import Counter

from groundswell.kernel import errors
from groundswell.kernel.context import Context
from groundswell.kernel.ids import Ids
from groundswell.kernel.postgres import database
from groundswell.kernel.postgres.database import Database, left_s
from groundswell.kernel.postgres.migrations import dsn_of
from groundswell.kernel.postgres.transaction import Tx

T = TypeVar("T")

log = logging.getLogger(__name__)

WAIT_S_MAX = 0.1
"""How long a read waits for a replica to replay what its caller has seen."""
POLL_S = 0.01
LAG_S_MAX = 5.0
"""A replica that is further behind, or that receives nothing, is not read by anybody."""
AWAY_S = 2.0
"""How long a replica that did not answer is left alone."""
GIVEN_S_MIN = 1.0
"""A replica that had less time than this did nothing wrong by not answering: it was its caller who had none."""

_READS = Counter("groundswell_postgres_list_reads_total", "Reads that may go to a replica, by who served them.", ["by"])

_FIT = """
SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= $1::text::pg_lsn AND EXISTS (SELECT FROM pg_stat_wal_receiver)
    AND (pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
        OR pg_last_xact_replay_timestamp() > clock_timestamp() - make_interval(secs => $2))
"""


class _Behind(Exception):
    """The replica has not replayed what the caller has seen."""


class _Replica:
    """One replica, and until when it is left alone."""

    def __init__(self, opened: Database) -> None:
        self.database = opened
        self.away_until_s = 0.0


class Reads:
    """Where a service reads lists."""

    def __init__(self, primary: Database, replicas: Sequence[Database] = (), *, lag_s_max: float = LAG_S_MAX) -> None:
        self._primary, self._lag_s_max = primary, lag_s_max
        self._replicas = [_Replica(each) for each in replicas]
        self._turn = itertools.count()
        primary.tells_position = bool(replicas)

    async def tenant(self, context: Context, query: Callable[[Tx], Awaitable[T]]) -> T:
        """What `query` finds in a read-only transaction in the tenant of `context`; it may run twice.

        Raises what `Database.tenant_tx` raises.
        """
        for replica in self._present():
            within = _half(context)
            given_s = left_s(within.deadline_s)
            try:
                found = await self._read(replica, within, query)
            except _Behind:
                continue
            except (errors.Unavailable, errors.Conflict, asyncpg.PostgresError) as error:
                if given_s < GIVEN_S_MIN:
                    continue
                # Whatever PostgreSQL says: a replica that has not heard of a table or a role yet refuses what the primary grants.
                log.warning("a replica is left alone for %.0f s: %r", AWAY_S, error.__cause__ or error)
                replica.away_until_s = time.monotonic() + AWAY_S
                continue
            _READS.labels("replica").inc()
            return found
        _READS.labels("primary").inc()
        async with self._primary.tenant_tx(context, read_only=True) as tx:
            return await query(tx)

    def _present(self) -> Iterator[_Replica]:
        """The replicas that are not left alone, each time from another one on."""
        first, now_s = next(self._turn), time.monotonic()
        for n in range(len(self._replicas)):
            replica = self._replicas[(first + n) % len(self._replicas)]
            if replica.away_until_s <= now_s:
                yield replica

    async def _read(self, replica: _Replica, context: Context, query: Callable[[Tx], Awaitable[T]]) -> T:
        async with replica.database.tenant_tx(context, read_only=True) as tx:
            until_s = time.monotonic() + WAIT_S_MAX
            while not await tx.fetchval(_FIT, context.consistency or "0/0", self._lag_s_max):
                if time.monotonic() >= until_s:
                    raise _Behind
                await asyncio.sleep(POLL_S)
            return await query(tx)


def _half(context: Context) -> Context:
    """The caller with half of its time: the other is the primary's, should the replica be silent."""
    if context.deadline_s is None:
        return context
    return replace(context, deadline_s=(time.monotonic() + context.deadline_s) / 2)


@asynccontextmanager
async def reading(
    primary: Database, replica_dsns: Sequence[str], ids: Ids, *, lag_s_max: float = LAG_S_MAX
) -> AsyncIterator[Reads]:
    """Reads of the service whose database is `primary`; of each DSN only the server counts, roles are those of the primary."""
    own = urlsplit(primary.dsn)
    name, role, password = own.path.removeprefix("/"), own.username or "", own.password or ""
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(database.opened(dsn_of(each, name, role, password), ids))
            for each in replica_dsns
        ]
        yield Reads(primary, replicas, lag_s_max=lag_s_max)
