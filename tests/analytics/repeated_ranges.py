"""Stores one range, rolls it up, lets the raw rows lie differently, and does all of it again: a child process, since a process may open
one embedded store only.

Prints how many rows every table held after the first time, after the inserts were repeated under their tokens and under tokens that the
store has never seen, and, as the control, after a repeat that does not ask the markers. Then some rollups are ahead of the
others, as a crash amid a statement for several leaves them. Then rows are taken away whose tokens stay, as a crash between a token and its
rows leaves them. Last, two partitions share a statement and are repeated one by one.
"""

import asyncio
import json
import re
import sys

import numpy as np

from groundswell.analytics.store import rollups, schema
from groundswell.analytics.store.ranges import Range, RangeStore, token
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics import raw_rows
from tests.analytics.writer_process import counts

ROWS, PAIR_ROWS, TOPIC, WHOLE = 300_000, 1_000, "frames", raw_rows.whole(0)
HOUR_MS = 3_600_000


async def _blind(store: clickhouse.ClickHouse, of: Range) -> None:
    """The same insert, under a token that the store has not seen, without the condition that asks the marker."""
    for table in schema.ROLLUPS:
        sql, bound = rollups.statement(table, [of])
        blind = re.sub(
            r"greatest\((\{a0:UInt64\}), \(SELECT .*? WHERE \(_p = \{p0:UInt8\} AND w > \{a0:UInt64\}\)\)\)", r"\1", sql
        )
        assert blind != sql
        await store.execute(blind, bound, clickhouse.insert_options(token(table, "blind", [of])))


async def _added(store: clickhouse.ClickHouse, table: str) -> None:
    """The insert into one rollup under the token of the first attempt, in one thread as that: two may give the groups in other blocks."""
    sql, bound = rollups.statement(table, [WHOLE])
    options = clickhouse.insert_options(token(table, TOPIC, [WHOLE])) | rollups.ONE_THREAD
    await store.execute(sql, bound, options)


async def _emptied(store: clickhouse.ClickHouse, *tables: str) -> None:
    for table in tables:
        await store.execute(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")


async def _pair_stored(ranges: RangeStore, hour_ms: int) -> list[Range]:
    """Rows in two further partitions, whose rollups share a statement."""
    drawn = raw_rows.draw(
        PAIR_ROWS, seed=2, tenant=7, start_ms=hour_ms, span_ms=HOUR_MS, items=9, users=99, partitions=2
    )
    pair = [Range(2, 0, 99), Range(3, 0, 99)]
    drawn.columns["_p"] = drawn.columns["_p"].astype(np.uint8) + np.uint8(2)
    for each in pair:
        await ranges.write(each, drawn.of(each.partition).content())
    return pair


async def main(folder: str) -> None:
    hour_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS
    drawn = raw_rows.draw(ROWS, seed=1, tenant=7, start_ms=hour_ms, span_ms=HOUR_MS, items=2_000, users=100_000)
    told: dict[str, dict[str, int]] = {}
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}", niceness=0)) as store:
        await schema.create(store, 20_000)
        ranges, rolled = RangeStore(store, TOPIC), RollupStore(store, TOPIC)
        for chunks in (1, 300):
            await ranges.write(WHOLE, drawn.content(chunks))
        await rolled.write([WHOLE])
        told["once"] = await counts(store)
        await store.execute(f"OPTIMIZE TABLE {schema.EV} FINAL")
        await rolled.write([WHOLE])
        told["by tokens"] = await counts(store)
        await RollupStore(store, "elsewhere").write_again([WHOLE])
        told["by markers"] = await counts(store)
        await _blind(store, WHOLE)
        told["control"] = await counts(store)
        await _emptied(store, *schema.ROLLUPS)
        await _added(store, schema.ITEM_1M)
        await _added(store, schema.EV_1S)
        await rolled.write([WHOLE])
        told["one table ahead"] = await counts(store)
        await _emptied(store, schema.EV, schema.EV_1S)
        await ranges.write(WHOLE, drawn.content())
        told["token without rows"] = await counts(store)
        await ranges.write_again(WHOLE, drawn.content())
        await _added(store, schema.EV_1S)
        told["token without rollup"] = await counts(store)
        await rolled.write_again([WHOLE])
        told["counted first"] = await counts(store)
        pair = await _pair_stored(ranges, hour_ms)
        await rolled.write(pair)
        told["a pair"] = await counts(store)
        for each in pair:
            await RollupStore(store, "elsewhere").write([each])
        told["each of the pair"] = await counts(store)
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
