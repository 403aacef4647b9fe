"""What makes something old that others keep does not wait behind a backlog of what is new; the order per key stays, and nothing starves.

The relay's hook sees what leaves, and in which order; the log is read where it matters that it arrived.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.kernel import postgres
from groundswell.kernel.bus import relay as relaying
from groundswell.kernel.bus.events import incoming
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import BATCH_ROWS_MAX, URGENT_ROWS_MAX, Outbound, relay
from groundswell.kernel.postgres.migrations import dsn_of

from .publishing import event, publish, read, running, until

BACKLOG = 50_000
SEED = 20261129


class Leaving:
    """A hook that notes what leaves; while it is `shut` nothing does, as behind the batch that holds the key `last`."""

    def __init__(self, last: str = "") -> None:
        self._last = last
        self.keys: list[str] = []
        self.batches: list[list[str]] = []
        self.shut = False

    async def __call__(self, rows: Sequence[Outbound]) -> None:
        if self.shut:
            raise ConnectionError("the cache is away")
        self.batches.append([row.key.decode() for row in rows])
        self.keys += self.batches[-1]
        self.shut = self._last in self.batches[-1]


@pytest.mark.promise("LINKS-9")
async def test_a_change_leaves_before_fifty_thousand_new_things_that_were_written_earlier(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: it waits for the batch under way and no more. It is the second event of a thing whose first is at the backlog's end, and goes
    after that one. Control: an ordinary event, written before it, stays behind the backlog."""
    for start in range(0, BACKLOG, 5_000):
        await publish(database, *(event(topic, str(number)) for number in range(start, start + 5_000)))
    changed = str(BACKLOG - 1)
    leaving = Leaving(last=changed)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka_address, auto_offset_reset="earliest")
    await consumer.start()
    async with running(relay(database, producer, leaving)):
        await until(lambda: len(leaving.batches) >= 3)
        await publish(database, event(topic, "ordinary"))
        await publish(database, event(topic, changed, 2, urgent=True))
        written_s, under_way = time.monotonic(), len(leaving.batches)
        heard = [each.key.decode() async for each in until_heard(consumer, changed, 2)]
        print(f"heard after {time.monotonic() - written_s:.3f} s, behind {len(heard):,} events")
    await consumer.stop()
    # One batch may have been read before it was written, and not have come to the hook.
    first = next(number for number, batch in enumerate(leaving.batches) if changed in batch)
    assert first <= under_way + 1
    assert leaving.batches[first][:2] == [changed, changed]
    assert heard.count(changed) == 2
    assert "ordinary" not in leaving.keys


async def until_heard(consumer: AIOKafkaConsumer, key: str, times: int):  # type: ignore[no-untyped-def]  # records of the driver
    """Records up to the one that comes as the key's last."""
    async with asyncio.timeout(15):
        while times:
            record = await consumer.getone()
            times -= record.key.decode() == key
            yield record


async def test_however_urgent_ones_are_strewn_each_keys_events_leave_once_and_in_order(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Written while the relay runs, fails and tries again; keys of one event and of hundreds."""
    print(f"seed {SEED}")
    drawn, count, leaving = random.Random(SEED), 6_000, Leaving()
    wanted: dict[str, list[int]] = {}
    async with running(relay(database, producer, leaving)):
        for start in range(0, count, 500):
            leaving.shut = drawn.random() < 0.6
            events = []
            for number in range(start, start + 500):
                key = str(int(drawn.paretovariate(0.5)) % 1_000)
                wanted.setdefault(key, []).append(number)
                events.append(event(topic, key, number, urgent=drawn.random() < 0.1))
            await publish(database, *events)
        leaving.shut = False
        records = await read(kafka_address, topic, count)
    told: dict[str, list[int]] = {}
    for record in records:
        message = incoming(record).parse(events_pb.TenantCreated)
        told.setdefault(record.key.decode(), []).append(message.tenant.revision)
    assert told == wanted


async def test_neither_urgent_events_nor_the_others_starve(
    database: postgres.Database, producer: Producer, topic: str
) -> None:
    """With more of both than a batch holds each batch has half of each, also where all urgent ones are of one key."""
    for name, urgent in (("new", False), ("old", True)):
        await publish(database, *(event(topic, name, number, urgent=urgent) for number in range(3 * BATCH_ROWS_MAX)))
    leaving = Leaving()
    async with running(relay(database, producer, leaving)):
        await until(lambda: len(leaving.keys) >= 6 * BATCH_ROWS_MAX)
    for batch in leaving.batches[:4]:
        assert batch == ["old"] * URGENT_ROWS_MAX + ["new"] * (BATCH_ROWS_MAX - URGENT_ROWS_MAX)
    assert leaving.keys.count("old") == leaving.keys.count("new") == 3 * BATCH_ROWS_MAX


async def test_the_next_batch_is_found_by_indexes_however_long_the_backlog_is(
    database: postgres.Database, app_dsn: str, postgres_dsn: str, topic: str
) -> None:
    """Goal: no look at the outbox grows with it, whether or not the server has counted its rows."""
    async with database.platform_tx() as tx:
        await tx.execute(
            "INSERT INTO outbox (topic, key, headers, body, urgent) "
            "SELECT $1, n::text::bytea, '{}', 'x', n % 100 = 0 FROM generate_series(1, 100000) n",
            topic,
        )
    for analyze in ("SELECT 1", "ANALYZE outbox"):
        server = await asyncpg.connect(dsn_of(postgres_dsn, urlsplit(app_dsn).path.removeprefix("/")))
        try:
            await server.execute(analyze)
            urgent = await server.fetch(f"EXPLAIN {relaying._URGENT}", URGENT_ROWS_MAX)
            others = await server.fetch(f"EXPLAIN {relaying._OTHERS}", URGENT_ROWS_MAX, list(range(500)))
        finally:
            await server.close()
        for plan in (urgent, others):
            lines = [str(row[0]) for row in plan]
            assert not any("Seq Scan on outbox" in line for line in lines), lines
        assert not any("Sort" in str(row[0]) for row in others)
