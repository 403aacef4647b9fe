"""What is looked for by offset or by marker is looked for in the parts that can have it, and in no others.

Goal: a rollup takes what its range takes, however many parts its tables have grown to. Method: the engine's own word on which parts it
reads, of hundreds. The control is a store of an earlier version, whose tables are parted by hour and partition alone.
"""

import re
import time
from collections.abc import Awaitable, Callable
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from groundswell.analytics.store import rollups, schema
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.bus import frames
from tests.analytics import older_store
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import Drawn, draw

HOUR_MS = 3_600_000
HOUR = int(time.time()) // 3_600 - 400
"""Of 400 hours ago: nothing of it may be forgotten yet."""
HOURS, PER_HOUR, AT_ONCE, PARTS = 300, 10, 100, 12
RANGE = Range(0, 205 * PER_HOUR, 206 * PER_HOUR + 3)
"""Offsets of two hours."""
RANGES, LENGTH_MAX, TRIES, SEED = 40, 12, 25, 20261130


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
    """Of this version's tables the engine has each part's marker in memory, and tells all ends from that alone."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await made(store)
        added = RollupStore(store, "f")
        for part in range(PARTS):
            await added.write([Range(0, part * PER_HOUR, part * PER_HOUR + 9)])
        assert await added.lacking_from() == {0: PARTS * PER_HOUR}
        last = Range(0, (PARTS - 1) * PER_HOUR, PARTS * PER_HOUR)
        asked = f"SELECT count() FROM {schema.EV_1S} WHERE tenant = 0 AND kind = '' AND {rollups.BEYOND.format(n=0)}"
        assert await parts_read(store, schema.EV_1S, asked, {"p0": 0, "a0": last.first}) == (read, PARTS)
        ends = await store.query(f"EXPLAIN SELECT _p, max(w) FROM {schema.EV_1S} GROUP BY _p", own=True)
        in_memory = any("_minmax_count_projection" in str(row[0]) for row in ends.rows)
        assert (in_memory, schema.EV_1S in await schema.known(store, "w")) == (read == 1, read == 1)


@pytest.mark.promise("ANALYTICS-2")
async def test_the_newest_range_is_looked_for_in_the_frames_that_go_so_far(clickhouse_server: Server) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await of_this_version(store)
        ranges = RangeStore(store, "f")
        for part in range(PARTS):
            await ranges.write(of := Range(part % 2, part * PER_HOUR, part * PER_HOUR + 9), stored(of, 0))
        assert await ranges.newest({0: 0, 1: 0}) == {0: PARTS * PER_HOUR - 11, 1: PARTS * PER_HOUR - 1}
        asked = f"SELECT _p, max(_o) FROM {schema.FRAMES} WHERE tenant = 0 AND _p = 1 AND _o >= {(PARTS - 3) * PER_HOUR} GROUP BY _p"
        assert await parts_read(store, schema.FRAMES, asked, {}) == (2, PARTS)


@pytest.mark.promise("ANALYTICS-2")
async def test_no_row_of_a_range_is_left_out_wherever_it_lies(clickhouse_server: Server) -> None:
    """Method: ranges drawn from a seed, early, late and at the edges of hours, before and after they are merged. What is chosen is held
    against a condition that the engine can leave out no part for."""
    random = Random(SEED)
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await of_this_version(store)
        ends = [0, 0]
        for number in range(RANGES):
            of = Range(number % 2, ends[number % 2], ends[number % 2] + random.randrange(LENGTH_MAX))
            ends[of.partition] = of.last + 1
            await RangeStore(store, "f").write(of, stored(of, random.randrange(2**31)))
        for merged in (False, True):
            if merged:
                await store.execute(f"OPTIMIZE TABLE {schema.EV} FINAL")
            for _ in range(TRIES):
                asked = [some(partition, end, random) for partition, end in enumerate(ends)]
                sql, bound = rollups.chosen(asked)
                hidden = sql.replace("raw._p", "identity(raw._p)").replace("raw._o", "identity(raw._o)")
                assert hidden != sql
                assert await told(store, sql, bound) == await told(store, hidden, bound), (SEED, asked, merged)


def stored(of: Range, seed: int) -> Content:
    """What a writer stores of the range: rows of three hours around an edge, some of which came late, and its own row of `frames`."""
    random = np.random.default_rng(seed)
    start_ms = (HOUR + int(random.integers(0, 12))) * HOUR_MS + int(random.choice([-1, 0, 1, HOUR_MS - 1]))
    drawn = draw(24, seed=seed, tenant=TENANT, start_ms=start_ms, span_ms=3 * HOUR_MS, items=9, users=9)
    drawn.columns["flags"] = np.where(random.random(24) < random.choice([0, 0.3, 1]), frames.LATE, 0).astype(np.uint8)
    made = placed(drawn, of).content()
    book = {name: made.rows.column(name).slice(0, 1) for name in ("tenant", "_p", "_o", "_t")}
    book["tenant"], book["_o"] = pa.array([0], pa.uint64()), pa.array([of.last], pa.uint64())
    return Content(made.rows, made.batches, made.parked, pa.table(book))


def placed(drawn: Drawn, of: Range) -> Drawn:
    """The rows at the offsets of the range, stored an hour that is not forgotten."""
    count = len(drawn)
    drawn.columns["_p"] = np.full(count, of.partition, np.uint8)
    drawn.columns["_o"] = (of.first + np.arange(count) * (of.last - of.first + 1) // count).astype(np.uint64)
    drawn.columns["_t"] = np.full(count, (HOUR + 400) * 3_600, np.int64)
    return drawn


def some(partition: int, end: int, random: Random) -> Range:
    first = random.randrange(end)
    return Range(partition, first, min(end - 1, first + random.randrange(3 * LENGTH_MAX)))


async def told(store: clickhouse.ClickHouse, condition: str, bound: dict[str, object]) -> tuple[int, int]:
    """How many rows a condition takes, and which, as a sum over them."""
    answer = await store.query(
        f"SELECT count(), sum(cityHash64(raw._p, raw._o, raw.ts, raw.item, raw.user)) FROM {schema.EV} AS raw WHERE {condition}",
        bound,
    )
    return int(answer.rows[0][0]), int(answer.rows[0][1])


def of_hour(hour: int) -> Content:
    drawn = draw(20, seed=hour, tenant=TENANT, start_ms=(HOUR + hour) * HOUR_MS, span_ms=HOUR_MS, items=9, users=9)
    return placed(drawn, Range(0, hour * PER_HOUR, hour * PER_HOUR + 9)).content()


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
