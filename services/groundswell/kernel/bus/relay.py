"""The relay: the only producer of domain events, from the outbox of a service's database to Kafka.

At least once and in order per key: rows are read in order of their sequence, sent by an idempotent producer, and deleted after the
broker has acknowledged them. A crash in between sends them again with the same event id, which consumers bear. One relay a
database is active; the others wait for its lock. Memory is bounded by the batch, however long the backlog.

Urgent rows do not wait behind the others, each with all that waits of its key: they begin the next batch and are half of it at most, so
that neither kind starves. Nothing but the outbox says what is next, so a crash or another relay changes nothing about the order per key.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import orjson
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge

from groundswell.kernel import failpoints
from groundswell.kernel.bus.events import wire_headers
from groundswell.kernel.bus.producer import Producer, Record
from groundswell.kernel.postgres.database import GONE, Database

log = logging.getLogger(__name__)

BATCH_ROWS_MAX = 1_000
URGENT_ROWS_MAX = BATCH_ROWS_MAX // 2
"""Of a batch; the other half is for the others."""
POLL_S = 0.05
RETRY_S = 0.5
LAST_S_MAX = 2.0
"""How long a relay that is told to end may take to send what is left; a successor sends the rest."""
_KEEPALIVE = """
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000"""
"""How soon the server gives up a relay that the network took, whether it rested or was being answered: the lock is that session's, and no
other relay sends meanwhile."""
_LOCK = 0x6F7574626F78  # "outbox"

# A row goes before those of other keys only: all that waits of an urgent row's key up to it is taken, what came first first.
_URGENT = """
WITH urgent AS MATERIALIZED (SELECT seq, topic, key FROM outbox WHERE urgent ORDER BY seq LIMIT $1),
keys AS MATERIALIZED (SELECT topic, key, max(seq) AS last FROM urgent GROUP BY topic, key)
SELECT upto.* FROM keys, LATERAL (
    SELECT seq, topic, key, headers, body FROM outbox
    WHERE key = keys.key AND topic = keys.topic AND seq <= keys.last ORDER BY seq LIMIT $1
) upto ORDER BY seq LIMIT $1"""
_OTHERS = "SELECT seq, topic, key, headers, body FROM outbox WHERE seq <> ALL($2::bigint[]) ORDER BY seq LIMIT $1"
_ANY = "SELECT EXISTS (SELECT FROM outbox)"

_RELAYED = Counter("groundswell_outbox_relayed_total", "Events that left an outbox, by topic.", ["topic"])
_HELD = Gauge(
    "groundswell_outbox_held_timestamp_seconds",
    "Since when the relay has had the events that it could not send yet; 0 with none.",
    ["database"],
)


@dataclass(frozen=True, slots=True)
class Outbound:
    """One row of the outbox, before it is sent."""

    sequence: int
    topic: str
    key: bytes
    headers: dict[str, str]
    body: bytes


BeforePublish = Callable[[Sequence[Outbound]], Awaitable[None]]


async def relay(database: Database, producer: Producer, before_publish: BeforePublish | None = None) -> None:
    """Relays until cancelled, then what is left. `before_publish` sees each batch first, so that a cache is corrected before anyone hears
    of a change."""
    ending = asyncio.Event()
    relaying = asyncio.create_task(_relay(database, producer, before_publish, ending))
    try:
        await asyncio.shield(relaying)
    finally:
        ending.set()
        database.outbox_written.set()
        await asyncio.wait({relaying}, timeout=LAST_S_MAX)
        relaying.cancel()
        await asyncio.wait({relaying})


async def _relay(
    database: Database, producer: Producer, before_publish: BeforePublish | None, ending: asyncio.Event
) -> None:
    held = _Held(database)
    while not ending.is_set():
        try:
            await _lead(database, producer, before_publish, held, ending)
        except (asyncpg.PostgresError, KafkaError, *GONE) as error:
            log.warning("the relay waits for its engines: %s", type(error).__name__)
            await asyncio.sleep(RETRY_S)


class _Held:
    """Since when events wait in the relay's hands, also while it fails and tries again."""

    def __init__(self, database: Database) -> None:
        self._gauge = _HELD.labels(urlsplit(database.dsn).path.removeprefix("/"))
        self._since = 0.0
        self.end()

    def begin(self) -> None:
        """There are some."""
        self._since = self._since or time.time()
        self._gauge.set(self._since)

    def end(self) -> None:
        """They were sent, or are another relay's."""
        self._since = 0.0
        self._gauge.set(0)


async def _lead(
    database: Database,
    producer: Producer,
    before_publish: BeforePublish | None,
    held: _Held,
    ending: asyncio.Event,
) -> None:
    """Sends all that comes while it has the lock; returns when it is told to end and nothing is left."""
    connection = await asyncpg.connect(database.dsn, timeout=5, command_timeout=10)
    try:
        await connection.execute(_KEEPALIVE)
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            held.end()
            if ending.is_set():
                return
            await asyncio.sleep(RETRY_S)
        while True:
            database.outbox_written.clear()
            last = ending.is_set()
            rows = await _next(connection)
            if not rows:
                held.end()
                if last:
                    return
                await _written(database, connection)
                continue
            held.begin()
            if before_publish is not None:
                await before_publish(rows)
            failpoints.reach("relay.before_send")
            await _send(producer, rows)
            failpoints.reach("relay.after_send")
            await connection.execute("DELETE FROM outbox WHERE seq = ANY($1::bigint[])", [row.sequence for row in rows])
            held.end()
    finally:
        connection.terminate()


async def _next(connection: asyncpg.Connection) -> list[Outbound]:
    """The next batch: urgent rows first, then the oldest ones."""
    urgent = [_outbound(record) for record in await connection.fetch(_URGENT, URGENT_ROWS_MAX)]
    taken = [row.sequence for row in urgent]
    others = await connection.fetch(_OTHERS, BATCH_ROWS_MAX - len(taken), taken)
    return [*urgent, *map(_outbound, others)]


def _outbound(row: asyncpg.Record) -> Outbound:
    return Outbound(row["seq"], row["topic"], row["key"], orjson.loads(row["headers"]), row["body"])


async def _written(database: Database, connection: asyncpg.Connection) -> None:
    """Waits for a commit of this process, or until there is one of another's: that is looked for by as little as there is to ask."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await database.outbox_written.wait()
                return
        if await connection.fetchval(_ANY):
            return


async def _send(producer: Producer, rows: Sequence[Outbound]) -> None:
    await producer.send_all([Record(row.topic, row.body, row.key, headers=wire_headers(row.headers)) for row in rows])
    for row in rows:
        _RELAYED.labels(row.topic).inc()
