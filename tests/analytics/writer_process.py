"""The writer's two loops without the rest of a process, to be killed by tests.

`run` stores and rolls up until killed, and after each moment without pending work writes how many rows are in every table to the
file STATUS. `count` prints the rows of every table; an embedded store must not be open elsewhere.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaProducer
from prometheus_client.metrics import MetricWrapperBase

from groundswell.analytics.consumers import held, retention
from groundswell.analytics.consumers import rollups as rolling
from groundswell.analytics.consumers import writer as writing
from groundswell.analytics.service.storing import LogRecord
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import RangeStore
from groundswell.analytics.store.rollups import RollupStore, Total
from groundswell.kernel import clickhouse, errors, settings
from groundswell.kernel.bus.consumer import bury
from groundswell.kernel.bus.frames import voids
from groundswell.kernel.bus.intents import Membership
from groundswell.kernel.clock import SystemClock

COUNTED = " UNION ALL ".join([
    f"SELECT 'ev' AS name, count() AS rows FROM {schema.EV}",
    *(f"SELECT '{table}', sum(events) FROM {table}" for table in schema.ROLLUPS),
    *(f"SELECT '{name}', sum({name}) FROM {schema.FRAMES}" for name in ("accepted", "parked", "duplicate")),
])  # fmt: skip
PARTS = f"SELECT groupBitXor(cityHash64(table, name)) FROM system.parts WHERE database = '{schema.DATABASE}' AND active"
"""What changes whenever a table does, and costs next to nothing: while a test waits, counting takes a third of a processor."""


async def counts(store: clickhouse.ClickHouse) -> dict[str, int]:
    return {str(name): int(value) for name, value in (await store.query(COUNTED)).rows}


async def count(dsn: str) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=dsn, niceness=0)) as store:
        print(json.dumps(await counts(store)))


async def run(bootstrap: str, topic: str, dsn: str, status: str, instance: str) -> None:
    config = settings.load(WriterSettings)
    published: dict[tuple[int, str, int], int] = {}

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    await producer.start()

    async def set_aside(record: LogRecord, reason: Exception) -> None:
        await bury(topic, None, record.value, list(record.headers), reason, f"{topic}.writer", producer)

    async def publish(totals: Sequence[Total]) -> None:
        published.update({(t.tenant, t.kind, t.item): t.events for t in totals})

    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=dsn, niceness=0)) as store:
        await schema.create(store, config.deduplication_window, instance)
        ranges, rollups = RangeStore(store, topic), RollupStore(store, topic)
        group = os.environ.get("TESTED_GROUP", f"{topic}.writer")
        writes = Membership(bootstrap, group, topic, instance=instance)
        rolls = Membership(bootstrap, f"{topic}.rollups", topic, instance=instance, fetch=False)
        stored = writing.Writer(
            writes, ranges, SystemClock(), config, set_aside, partial(voids.append, bootstrap, topic)
        )
        rolled = rolling.Rollups(rolls, ranges, rollups, config, publish)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stored.run())
            tasks.create_task(rolled.run())
            tasks.create_task(_report(store, Path(status)))


async def _report(store: clickhouse.ClickHouse, status: Path) -> None:
    of, found = None, dict[str, int]()
    while True:
        # A count that was under way when the process was paused is over its time when it goes on.
        with contextlib.suppress(clickhouse.QueryFailed, clickhouse.StoreUnavailable, errors.DeadlineExceeded):
            if (parts := (await store.query(PARTS)).rows[0][0]) != of or not found:
                found, of = await counts(store), parts
            kept = {found[name] for name in ("ev", *schema.ROLLUPS)}
            draft = status.with_suffix(".new")
            whole = not _sum(held.HELD)
            lost = _sum(retention.LOST, "_total")
            done = kept.pop() if len(kept) == 1 else -1
            draft.write_text(json.dumps(found | {"done": done, "whole": int(whole), "lost": lost}))
            draft.replace(status)
        await asyncio.sleep(0.1)


def _sum(metric: MetricWrapperBase, suffix: str = "") -> int:
    return sum(int(s.value) for family in metric.collect() for s in family.samples if s.name == family.name + suffix)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    asyncio.run(run(*arguments) if command == "run" else count(*arguments))
