"""A store that an earlier version made, on its way to this one: a child process, since a process may open one embedded store only.

`make` makes the tables of before, rolls rows up in them, and takes the raw rows away, so that nothing can be filled from those.
`upgrade` makes the tables of this version; `tell` rolls further rows up and prints what every rollup holds.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from groundswell.analytics.store import rollups, schema
from groundswell.analytics.store.ranges import Range, RangeStore, token
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics import raw_rows

ROWS, LATER_ROWS, PARTITIONS, TOPIC = 4_000, 1_000, 3, "frames"
HOUR_MS = 3_600_000
OLD_TABLES = Path(__file__).with_name("older_store.sql")
OLD_ROLLUPS = (schema.EV_1S, schema.EV_1M, schema.EV_1H, schema.ITEM_1M, schema.ITEM_TOTALS)
NEW_KEY = "PARTITION BY (_p, bitAnd(w, 0))"
_SUMS = "sum(events), sum(value), uniqCombined64Merge(14)(users), max(w)"
_KEYS = {
    schema.EV_1H_DEVICES: (schema.EV_1H, "_p, tenant, kind, at, device, bot", "at"),
    schema.ITEM_1H: (schema.ITEM_1M, "_p, tenant, kind, at, item, bot", "hour AS at"),
}


async def made(store: clickhouse.ClickHouse) -> None:
    """A store of an earlier version that holds the first rows in its rollups."""
    await tables(store)
    await stored(store, ROWS, seed=1, first=0)
    await rolled_up_by_an_older_writer(store, [Range(p, 0, 99) for p in range(PARTITIONS)])
    await store.execute(f"ALTER TABLE {schema.EV} DELETE WHERE 1 SETTINGS mutations_sync = 2")


async def tables(store: clickhouse.ClickHouse) -> None:
    """The empty tables of an earlier version."""
    for statement in OLD_TABLES.read_text().split(";\n"):
        if statement.strip():
            await store.execute(statement)


async def parted_as_before(store: clickhouse.ClickHouse, table: str) -> None:
    """Gives a table, with what it holds, the partition key that rollups had before their markers stood in it."""
    made = await store.query(f"SHOW CREATE TABLE {table}", own=True)
    statement = str(made.rows[0][0])
    assert NEW_KEY in statement
    await store.execute(f"RENAME TABLE {table} TO {table}_new")
    await store.execute(statement.replace(NEW_KEY, "PARTITION BY _p"))
    await store.execute(f"INSERT INTO {table} SELECT * FROM {table}_new")
    await store.execute(f"DROP TABLE {table}_new")


async def drafts(store: clickhouse.ClickHouse) -> list[str]:
    found = await store.query("SELECT concat(database, '.', name) FROM system.tables WHERE name LIKE '%filling%'")
    return [str(name) for (name,) in found.rows]


async def stored(store: clickhouse.ClickHouse, rows: int, *, seed: int, first: int, days_back: int = 0) -> None:
    """Raw rows of every partition, from this offset on, of events of so many days ago."""
    now_ms = SystemClock().now_ms()
    start_ms = now_ms // HOUR_MS * HOUR_MS - 5 * HOUR_MS - days_back * 24 * HOUR_MS
    drawn = raw_rows.draw(
        rows, seed=seed, tenant=7, start_ms=start_ms, span_ms=4 * HOUR_MS, items=40, users=900, partitions=PARTITIONS
    )
    drawn.columns["_o"] = drawn.columns["_o"].astype(np.uint64) + np.uint64(first)
    drawn.columns["_t"] = np.full(rows, now_ms // 1_000, np.int64)
    for p in range(PARTITIONS):
        await RangeStore(store, TOPIC).write(Range(p, first, first + 99), drawn.of(p).content())


async def rolled_up_by_an_older_writer(store: clickhouse.ClickHouse, of: list[Range]) -> None:
    """What a writer that does not know the new tables adds."""
    for table in OLD_ROLLUPS:
        sql, bound = rollups.statement(table, of)
        await store.execute(sql, bound, clickhouse.insert_options(token(table, TOPIC, of)))


async def told(store: clickhouse.ClickHouse) -> dict[str, object]:
    """Events of each rollup, how many groups of the new ones differ from those of the finer ones, and tables that nobody needs."""
    events = {
        table: int((await store.query(f"SELECT sum(events) FROM {table}")).rows[0][0]) for table in schema.ROLLUPS
    }
    differing = {table: await _differing(store, table) for table in _KEYS}
    return {"events": events, "differing": differing, "drafts": len(await drafts(store))}


async def _differing(store: clickhouse.ClickHouse, table: str) -> int:
    finer, keys, at = _KEYS[table]
    columns = keys.replace("at", at)
    ours = f"SELECT {keys}, {_SUMS} FROM {table} GROUP BY {keys}"
    theirs = f"SELECT {columns}, {_SUMS} FROM {finer} GROUP BY {keys}"
    answer = await store.query(
        f"SELECT (SELECT count() FROM ({ours} EXCEPT {theirs})) + (SELECT count() FROM ({theirs} EXCEPT {ours}))"
    )
    return int(answer.rows[0][0])


async def main(command: str, folder: str) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}", niceness=0)) as store:
        if command == "make":
            await made(store)
            return
        if command == "age":
            for draft in await drafts(store):
                await parted_as_before(store, draft)
            return
        await schema.create(store, 20_000, "one")
        if command == "tell":
            filled = await told(store)
            await stored(store, LATER_ROWS, seed=2, first=100)
            await RollupStore(store, TOPIC).write([Range(p, 100, 199) for p in range(PARTITIONS)])
            print(json.dumps([filled, await told(store)]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
