"""What is looked for by offset or by marker is looked for in the parts that can have it, and in no others.

Goal: a rollup takes what its range takes, however many parts its tables have grown to. Method: the engine's own word on which parts it
reads, of hundreds. The control is a store of an earlier version, whose tables are parted by hour and partition alone.
"""

import re
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pyarrow as pa
import pytest

from groundswell.analytics.store import rollups, schema
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from tests.analytics import older_store
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import draw

HOUR_MS = 3_600_000
HOUR = int(time.time()) // 3_600 - 400
"""Of 400 hours ago: nothing of it may be forgotten yet."""
HOURS, PER_HOUR, AT_ONCE, PARTS = 300, 10, 100, 12
RANGE = Range(0, 205 * PER_HOUR, 206 * PER_HOUR + 3)
"""Offsets of two hours."""


async def of_this_version(store: clickhouse.ClickHouse) -> None:
    await schema.create(store, 1_000)


async def of_before(store: clickhouse.ClickHouse) -> None:
    await older_store.tables(store)
    await of_this_version(store)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(("made", "read"), [(of_this_version, 2), (of_before, HOURS)])
async def test_a_rollup_looks_into_the_parts_of_its_offsets_of_three_hundred(
    clickhouse_server: Server, made: Callable[[clickhouse.ClickHouse], Awaitable[None]], read: int
) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await made(store)
        for hour in range(0, HOURS, AT_ONCE):
            rows = pa.concat_tables([of_hour(each).rows for each in range(hour, hour + AT_ONCE)])
            none = rows.slice(0, 0)
            await RangeStore(store, "f").write(Range(0, hour, hour + AT_ONCE), Content(rows, none, none, none))
        for table in (schema.EV_1S, schema.ITEM_1M):
            sql, bound = rollups.statement(table, [RANGE])
            asked = sql[sql.index("SELECT raw._p") : sql.rindex("UNION ALL")]
            assert await parts_read(store, schema.EV, asked, bound) == (read, HOURS)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(("made", "read"), [(of_this_version, 1), (of_before, PARTS)])
async def test_whether_a_rollup_holds_a_range_is_looked_for_in_the_parts_that_go_so_far(
    clickhouse_server: Server, made: Callable[[clickhouse.ClickHouse], Awaitable[None]], read: int
) -> None:
    """Of this version's tables the engine has each part's marker in memory, and tells their ends from that alone."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await made(store)
        added = RollupStore(store, "f")
        for part in range(PARTS):
            await added.write([Range(0, part * PER_HOUR, part * PER_HOUR + 9)])
        assert await added.lacking_from() == {0: PARTS * PER_HOUR}
        last = Range(0, (PARTS - 1) * PER_HOUR, PARTS * PER_HOUR)
        asked = f"SELECT count() FROM {schema.EV_1S} WHERE tenant = 0 AND kind = '' AND {rollups.BEYOND.format(n=0)}"
        assert await parts_read(store, schema.EV_1S, asked, {"p0": 0, "a0": last.first}) == (read, PARTS)
        assert (schema.EV_1S in await schema.known(store, "w")) == (read == 1)


def of_hour(hour: int) -> Content:
    drawn = draw(20, seed=hour, tenant=TENANT, start_ms=(HOUR + hour) * HOUR_MS, span_ms=HOUR_MS, items=9, users=9)
    drawn.columns["_o"] = (hour * PER_HOUR + np.arange(20) * PER_HOUR // 20).astype(np.uint64)
    drawn.columns["_t"] = np.full(20, (HOUR + 400) * 3_600, np.int64)
    return drawn.content()


async def parts_read(store: clickhouse.ClickHouse, table: str, asked: str, bound: dict[str, object]) -> tuple[int, int]:
    """How many parts of the table are left over by what the engine knows of each, of how many."""
    plan = await store.query(f"EXPLAIN indexes = 1 {asked}", bound, own=True)
    text = "\n".join(str(row[0]) for row in plan.rows)
    read = re.search(rf"ReadFromMergeTree \({table}\).*?Partition\n.*?Parts: (\d+)/\d+", text, re.DOTALL)
    parts = await store.query(
        "SELECT count() FROM system.parts WHERE active AND concat(database, '.', table) = {t:String}", {"t": table}
    )
    assert read is not None, text
    return int(read[1]), int(parts.rows[0][0])
