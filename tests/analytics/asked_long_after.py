"""Asks a store about rows of long ago that it has forgotten in part, and compares what it answers with all the rows there were.

A child process, since a process may open one embedded store only. Prints `{"answered": n, "refused": n, "wrong": [...]}`.
"""

import asyncio
import json
import random
import sys

import numpy as np

from groundswell.analytics.errors import QueryInvalid
from groundswell.analytics.model.questions import DAY_MS, HOUR_MS, MINUTE_MS, Question
from groundswell.analytics.store import schema
from groundswell.analytics.store.queries import QueryStore
from groundswell.analytics.store.ranges import RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics import raw_rows
from tests.analytics.asked import compared, rows_of

TENANT, ROWS, QUESTIONS, SEED = 7, 2_000, 120, 20261129
AGES_DAYS = (91, 60)


async def main(folder: str) -> None:
    hour_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS
    chance, rows, wrong, refused = random.Random(SEED), [], [], 0
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}", niceness=0)) as store:
        await schema.create(store, 1_000)
        rollups = RollupStore(store, "frames")
        for partition, days in enumerate(AGES_DAYS):
            drawn = raw_rows.draw(
                ROWS, seed=SEED, tenant=TENANT, start_ms=hour_ms - days * DAY_MS, span_ms=3 * HOUR_MS, items=9, users=99
            )
            drawn.columns["_p"] = drawn.columns["_p"].astype(np.uint8) + np.uint8(partition)
            drawn.columns["_t"] = np.full(
                ROWS, hour_ms // 1_000
            )  # a store may forget older ones before they are rolled up
            rows += rows_of(drawn)
            await RangeStore(store, "frames").write(raw_rows.whole(partition), drawn.content())
            await rollups.write([raw_rows.whole(partition)])
        await store.execute(f"ALTER TABLE {schema.EV} DELETE WHERE 1 SETTINGS mutations_sync = 2")
        for table in schema.ROLLUPS:
            await store.execute(f"OPTIMIZE TABLE {table} FINAL")
        queries = QueryStore(store, len(AGES_DAYS), rollups.adding)
        for _ in range(QUESTIONS):
            try:
                wrong.append(await compared(queries, rows, _question(chance, hour_ms)))
            except QueryInvalid:
                refused += 1
    print(json.dumps({"answered": len(wrong), "refused": refused, "wrong": [each for each in wrong if each]}))


def _question(chance: random.Random, hour_ms: int) -> Question:
    """Any range about one of the ages, aligned to an hour, a minute or a second."""
    step_ms = chance.choice([HOUR_MS, HOUR_MS, MINUTE_MS, 1_000])
    about_ms = hour_ms - chance.choice(AGES_DAYS) * DAY_MS
    first, last = sorted(about_ms + chance.randrange(-HOUR_MS, 4 * HOUR_MS) // step_ms * step_ms for _ in range(2))
    dimensions = chance.choice([(), ("country",), ("kind", "bot"), ("item",)])
    return Question(("events", "value"), dimensions, (), chance.choice(["", "hour"]), first, last + step_ms)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
