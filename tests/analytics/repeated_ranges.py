"""Stores one range, rolls it up, lets the raw rows lie differently, and does all of it again: a child process, since a process may open
one embedded store only.

Prints how many rows every table held after the first time, after the inserts were repeated under their tokens, after the markers were
asked (under tokens that the store has never seen), and, as the control, after a repeat under the first tokens whose groups came in
other blocks.
"""

import asyncio
import json
import sys

import numpy as np
import pyarrow as pa

from groundswell.analytics.store import rollups, schema
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics.writer_process import counts

ROWS, TOPIC = 300_000, "frames"
WHOLE = Range(0, 0, 99)


def content(clock: SystemClock, chunks: int) -> Content:
    """Rows of many users and items, all in one hour; `chunks` says how they lie in memory, not what they are."""
    random = np.random.default_rng(1)
    now_ms = clock.now_ms() // 3_600_000 * 3_600_000
    columns = {
        "ts": pa.array(now_ms + np.arange(ROWS) % 3_600_000).cast(pa.timestamp("ms", "UTC")),
        "kind": pa.array(["click"] * ROWS),
        "tenant": pa.array(np.full(ROWS, 7, np.uint64)),
        "item": pa.array(random.integers(1, 2_000, ROWS).astype(np.uint64)),
        "user": pa.array(random.integers(1, 1 << 60, ROWS).astype(np.uint64)),
        "network": pa.array(np.zeros(ROWS, np.uint32)),
        "country": pa.array((np.arange(ROWS) % 200).astype(np.uint16)),
        "device": pa.array((np.arange(ROWS) % 4).astype(np.uint8)),
        "flags": pa.array((np.arange(ROWS) % 2).astype(np.uint8)),
        "value": pa.array(np.ones(ROWS)),
        "props": pa.array([""] * ROWS),
        "name": pa.array([""] * ROWS),
        "_p": pa.array(np.zeros(ROWS, np.uint8)),
        "_o": pa.array(np.repeat(np.arange(100, dtype=np.uint64), ROWS // 100)),
        "_t": pa.array(np.full(ROWS, clock.now_ms() // 1000, np.int64)).cast(pa.timestamp("s", "UTC")),
    }
    table, step = pa.table(columns), ROWS // chunks
    rows = pa.concat_tables([table.slice(start, step) for start in range(0, ROWS, step)])
    return Content(rows, _empty(), _empty(), _empty())


def _empty() -> pa.Table:
    return pa.table({"_p": pa.array([], pa.uint8())})


async def _grouped_in_buckets(store: clickhouse.ClickHouse, of: Range) -> None:
    """The same insert under the same token, but its groups in buckets, as memory at another moment might have it."""
    buckets = {"group_by_two_level_threshold": 1, "group_by_two_level_threshold_bytes": 1, "max_threads": 4}
    for table in schema.ROLLUPS:
        options = clickhouse.insert_options(of.token(table, TOPIC)) | buckets
        await store.execute(rollups.INSERTS[table], {"p": of.partition, "a": of.first, "b": of.last}, options)


async def main(folder: str) -> None:
    clock = SystemClock()
    told: dict[str, dict[str, int]] = {}
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}")) as store:
        await schema.create(store, 20_000)
        ranges, rolled = RangeStore(store, TOPIC), RollupStore(store, TOPIC)
        for chunks in (1, 300):
            await ranges.write(WHOLE, content(clock, chunks))
        await rolled.write(WHOLE)
        told["once"] = await counts(store)
        await store.execute(f"OPTIMIZE TABLE {schema.EV} FINAL")
        await rolled.write(WHOLE)
        told["by tokens"] = await counts(store)
        await RollupStore(store, "elsewhere").write_again(WHOLE)
        told["by markers"] = await counts(store)
        await _grouped_in_buckets(store, WHOLE)
        told["control"] = await counts(store)
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
