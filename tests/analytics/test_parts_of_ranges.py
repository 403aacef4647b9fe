"""What is rolled up is looked for in the parts of its hours alone, and nothing is left out for that.

Goal: a rollup takes what its range takes, not what a month of raw rows has grown to. Method: the engine's own word on which parts it reads,
of three hundred; then ranges as they come, drawn from a seed: of an hour or two, late, early, at the edges of hours, of nothing, repeated,
without a note as an older writer leaves them, and given up. Each choice of rows is held against the one that no note narrows. The control
is a note that says too little.
"""

import re
import time
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from groundswell.analytics.service.storing import Storing
from groundswell.analytics.store import hours, rollups, schema
from groundswell.analytics.store.hours import ANY, NONE, Hours
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.analytics.store.rollups import NOTHING_NOTED, RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import Drawn, draw

HOUR_MS = 3_600_000
HOUR = int(time.time()) // 3_600 - 400
"""Of 400 hours ago: nothing of it may be forgotten yet."""
HOURS, PER_HOUR, AT_ONCE = 300, 10, 100
RANGES, LENGTH_MAX, TRIES, PARTITIONS = 60, 12, 80, 2
SEED = 20261129


def content(drawn: Drawn, of: Range, noted: Hours | None) -> Content:
    """What a writer stores of the range, with this note; an older one, with none, knows no such columns."""
    made = drawn.content()
    columns = {
        "tenant": pa.array([0], pa.uint64()),
        "_p": pa.array([of.partition], pa.uint8()),
        "_o": pa.array([of.last], pa.uint64()),
        "_t": pa.array([(HOUR + 400) * 3_600], pa.int64()).cast(pa.timestamp("s", "UTC")),
    }
    note = {} if noted is None else hours.columns(of.first, noted, 1)
    return Content(made.rows, made.batches, made.parked, pa.table(columns | note))


def drawn_of(of: Range, seed: int, start_ms: int, span_ms: int, rows: int) -> Drawn:
    drawn = draw(rows, seed=seed, tenant=TENANT, start_ms=start_ms, span_ms=span_ms, items=9, users=9)
    count = of.last - of.first + 1
    drawn.columns["_p"] = np.full(rows, of.partition, np.uint8)
    drawn.columns["_o"] = (of.first + np.arange(rows) * count // max(rows, 1)).astype(np.uint64)
    drawn.columns["_t"] = np.full(rows, (HOUR + 400) * 3_600, np.int64)
    return drawn


@pytest.mark.promise("ANALYTICS-2")
async def test_a_rollup_looks_into_the_parts_of_its_hours_of_three_hundred(clickhouse_server: Server) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        for hour in range(0, HOURS, AT_ONCE):
            made = [of_hour(each) for each in range(hour, hour + AT_ONCE)]
            tables = [
                pa.concat_tables(each)
                for each in zip(*((c.rows, c.batches, c.parked, c.frames) for c in made), strict=True)
            ]
            await RangeStore(store, "f").write(Range(0, hour, hour + AT_ONCE), Content(*tables))
        of = Range(0, 205 * PER_HOUR, 206 * PER_HOUR + 3)
        noted = await hours.noted(store, [of])
        assert noted == {of: Hours(HOUR + 205, HOUR + 206)}
        assert await parts_read(store, of) == {"ev_1s": 2, "item_1m": 2}
        await store.execute(f"ALTER TABLE {schema.FRAMES} UPDATE hour_last = 0 WHERE 1 SETTINGS mutations_sync = 2")
        assert await parts_read(store, of) == {"ev_1s": HOURS, "item_1m": HOURS}, "the control"


def of_hour(hour: int) -> Content:
    of = Range(0, hour * PER_HOUR, hour * PER_HOUR + PER_HOUR - 1)
    drawn = drawn_of(of, hour, (HOUR + hour) * HOUR_MS, HOUR_MS, 20)
    return content(drawn, of, hours.of_rows(drawn.content().rows))


async def parts_read(store: clickhouse.ClickHouse, of: Range) -> dict[str, int]:
    """Of how many parts the partition key leaves over, for two rollups."""
    found = {}
    for table in (schema.EV_1S, schema.ITEM_1M):
        sql, bound = rollups.statement(table, [of], await hours.noted(store, [of]))
        asked = sql[sql.index("SELECT raw._p") : sql.rindex("UNION ALL")]
        plan = await store.query(f"EXPLAIN indexes = 1 {asked}", bound, own=True)
        text = "\n".join(str(row[0]) for row in plan.rows)
        read = re.search(rf"ReadFromMergeTree \({schema.EV}\).*?Partition\n.*?Parts: (\d+)/{HOURS}", text, re.DOTALL)
        assert read is not None, text
        found[table.rpartition(".")[2]] = int(read[1])
    return found


@pytest.mark.promise("ANALYTICS-2")
async def test_no_row_is_left_out_of_a_rollup_wherever_the_rows_of_its_ranges_lie(clickhouse_server: Server) -> None:
    random = Random(SEED)
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        ends, narrowed = [await stored(store, p, random) for p in range(PARTITIONS)], 0
        assert [await RangeStore(store, "f").newest_row(p, 5) for p in range(PARTITIONS)] == ends
        assert await RangeStore(store, "f").newest_row(0, ends[0] + 1) == -1
        for _ in range(TRIES):
            of = [some(p, end, random) for p, end in enumerate(ends)]
            noted = await hours.noted(store, of)
            assert await chosen(store, of, noted) == await chosen(store, of, NOTHING_NOTED), (SEED, of, noted)
            narrowed += sum(1 for each in noted.values() if each != ANY)
        assert narrowed > TRIES / 5
        too_little = {Range(0, 0, ends[0]): Hours(HOUR, HOUR)}
        every = [*too_little]
        assert await chosen(store, every, too_little) != await chosen(store, every, NOTHING_NOTED), "the control"
        for partition, end in enumerate(ends):
            for first in range(0, end + 1, LENGTH_MAX):
                await RollupStore(store, "f").write([Range(partition, first, min(end, first + LENGTH_MAX - 1))])
        rows = int((await store.query(f"SELECT count() FROM {schema.EV}")).rows[0][0])
        for table in schema.ROLLUPS:
            assert (await store.query(f"SELECT sum(events) FROM {table}")).rows[0][0] == rows, table


async def stored(store: clickhouse.ClickHouse, partition: int, random: Random) -> int:
    """Ranges one behind the other, of all sorts; returns the last offset."""
    first = 0
    for number in range(RANGES):
        of = Range(partition, first, first + random.randrange(LENGTH_MAX))
        first = of.last + 1
        sort = random.choice(["noted"] * 8 + ["repeated", "older", "given up"])
        start_ms = (HOUR + random.randrange(12)) * HOUR_MS + random.choice([-1, 0, 1, HOUR_MS - 1])
        drawn = drawn_of(of, random.randrange(2**31), start_ms, random.choice([1, HOUR_MS, 3 * HOUR_MS]), 24)
        late = np.array([random.random() < random.choice([0, 0.3, 1]) for _ in range(24)])
        drawn.columns["flags"] = np.where(late, frames.LATE, random.choice([0, frames.EARLY, frames.BOT])).astype(
            np.uint8
        )
        made = drawn.content().rows
        note = {"noted": hours.of_rows(made), "repeated": ANY, "older": None, "given up": None}[sort]
        if late.all():
            assert hours.of_rows(made) == NONE
        whole = content(drawn, of, note)
        given = Content(whole.rows, whole.batches, whole.parked, whole.frames.slice(0, 0 if sort == "given up" else 1))
        await RangeStore(store, f"f{number}").write(of, given)
    return first - 1


def some(partition: int, end: int, random: Random) -> Range:
    first = random.randrange(end + 1)
    return Range(partition, first, min(end, first + random.randrange(3 * LENGTH_MAX)))


async def chosen(store: clickhouse.ClickHouse, of: list[Range], noted: Mapping[Range, Hours]) -> tuple[int, int]:
    """How many rows a statement takes, and which, as a sum over them."""
    sql, bound = rollups.chosen(of, noted)
    answer = await store.query(
        f"SELECT count(), toString(sum(cityHash64(raw._p, raw._o, raw.ts, raw.item, raw.user))) FROM {schema.EV} AS raw WHERE {sql}",
        bound,
    )
    return int(answer.rows[0][0]), int(answer.rows[0][1])


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes
    headers: list[tuple[str, bytes]]


async def test_a_range_that_is_stored_again_is_noted_as_of_any_hour(clickhouse_server: Server) -> None:
    """Goal: whatever rows somebody else has left there are looked for. Control: the first time the hours are those of its rows."""
    batch = frames.record_batch([frames.Row(HOUR * HOUR_MS, "view", TENANT, 1, 1)])
    record = Record(5, 0, frames.encode(batch), frames.Header(1, 1, 1, 0, 0).to_record())
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        ranges = RangeStore(store, "f")
        for of, again, expected in ((Range(0, 3, 5), False, Hours(HOUR, HOUR)), (Range(1, 3, 5), True, ANY)):
            storing = Storing(ranges, SystemClock(), of.partition)
            await storing.begin(of.first)
            stored, _ = await storing.decide(of, [record], again=again)
            await ranges.write(of, stored)
            assert await hours.noted(store, [of]) == {of: expected}
            assert await hours.noted(store, [Range(of.partition, 2, 5)]) == {}


@pytest.mark.parametrize(
    ("times_ms", "flags", "expected"),
    [
        ([HOUR * HOUR_MS, (HOUR + 1) * HOUR_MS - 1], [0, frames.BOT], Hours(HOUR, HOUR)),
        ([HOUR * HOUR_MS - 1, HOUR * HOUR_MS], [0, 0], Hours(HOUR - 1, HOUR)),
        ([HOUR * HOUR_MS, 5], [0, frames.LATE | frames.BOT], Hours(HOUR, HOUR)),
        ([HOUR * HOUR_MS], [frames.LATE], NONE),
        ([], [], NONE),
        ([HOUR * HOUR_MS, -1], [0, 0], ANY),
        ([HOUR * HOUR_MS, 2**32 * 1_000], [0, 0], ANY),
    ],
)
def test_the_hours_of_rows_are_those_that_the_store_parts_them_by(
    times_ms: list[int], flags: list[int], expected: Hours
) -> None:
    times = pa.array(times_ms, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    assert hours.of_rows(pa.table({"ts": times, "flags": pa.array(flags, pa.uint8())})) == expected
