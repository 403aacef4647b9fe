"""The tables: raw events, their rollups, and the books.

Two things make every number exact without a lock or a transaction:

- every table remembers the tokens of its inserts (`non_replicated_deduplication_window`, 0 by default, which would count twice);
- a rollup table is partitioned by the log's partition alone, so that one range of offsets becomes one part, and the same part
  holds a marker (tenant 0, kind '') whose `w` is the first offset beyond the range: whoever sees the rows sees the marker.

`frames` holds one row for each frame and tenant, and for each stored range a row of tenant 0, written after the range's rows: the
store itself knows how far it is.

Rollups of one kind come from one grouping of the raw rows: its groups go through a table that keeps nothing, and views pass them on to
the rollups, the coarser ones grouped once more.
"""

from groundswell.analytics.model import questions
from groundswell.kernel.clickhouse import ClickHouse

DATABASE = "analytics"
EV, FRAMES, BATCHES, PARKED = (f"{DATABASE}.{name}" for name in ("ev", "frames", "batches", "parked"))
EV_1S, EV_1M, EV_1H, ITEM_1M, ITEM_TOTALS = (
    f"{DATABASE}.{name}" for name in ("ev_1s", "ev_1m", "ev_1h", "item_1m", "item_totals")
)
ROLLUPS = (EV_1S, EV_1M, EV_1H, ITEM_1M, ITEM_TOTALS)
BY_TIME, BY_ITEM = (f"{DATABASE}.{name}" for name in ("by_time", "by_item"))
"""Through these groups go into their rollups. They keep nothing."""
PASSED_ON = {BY_TIME: (EV_1S, EV_1M, EV_1H), BY_ITEM: (ITEM_1M, ITEM_TOTALS)}
TABLES = (EV, FRAMES, BATCHES, PARKED, *ROLLUPS)

RAW_DAYS = questions.RAW.days
BATCH_DAYS = 9
"""How long a client batch is known again: its request id is good for one day, and the log may hold the last try for a week and more
before a writer that was away reads it."""

RAW_PART = "if(bitAnd(flags, 2) = 0, intDiv(toUnixTimestamp(ts), 3600), 0)"
"""What parts the raw rows of a partition of the log: their hour. Late rows, of up to a month, share one part, or somebody who sends a
few of every hour would make more parts than are ever merged."""

_LOG_PLACE = "_p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4)"

_RAW = f"""
CREATE TABLE IF NOT EXISTS {EV} (
    ts DateTime64(3, 'UTC') CODEC(Delta, LZ4), kind LowCardinality(String), tenant UInt64, item UInt64, user UInt64,
    network UInt32, country UInt16, device UInt8, flags UInt8, value Float64, props String, name String, {_LOG_PLACE},
    INDEX by_offset _o TYPE minmax GRANULARITY 16
) ENGINE = MergeTree PARTITION BY (_p, {RAW_PART}) ORDER BY (tenant, kind, item, ts)
TTL _t + INTERVAL {RAW_DAYS} DAY"""

_FRAMES = f"""
CREATE TABLE IF NOT EXISTS {FRAMES} (
    tenant UInt64, {_LOG_PLACE}, producer UInt64, seq UInt64, accepted UInt32, parked UInt32, duplicate UInt8
) ENGINE = MergeTree ORDER BY (tenant, _p, _o) TTL _t + INTERVAL {RAW_DAYS} DAY"""

STRETCH_OFFSETS = 65_536
STRETCH = f"intDiv(_o, {STRETCH_OFFSETS})"
_FRAMES_BESIDE = (
    f"PROJECTION IF NOT EXISTS marks (SELECT _p, {STRETCH}, producer, max(seq) GROUP BY _p, {STRETCH}, producer)",
    "INDEX IF NOT EXISTS by_offset _o TYPE minmax GRANULARITY 1",
)
"""What lies beside the rows of `frames`, so that a writer that starts finds the newest frame of each producer without reading a month of
them. A table of an earlier version gets it for what is stored from now on."""

_BATCHES = f"""
CREATE TABLE IF NOT EXISTS {BATCHES} (digest FixedString(16), {_LOG_PLACE})
ENGINE = MergeTree ORDER BY (_p, digest) TTL _t + INTERVAL {BATCH_DAYS} DAY"""

_PARKED = f"""
CREATE TABLE IF NOT EXISTS {PARKED} (tenant UInt64, ts DateTime64(3, 'UTC'), kind String, props String, {_LOG_PLACE})
ENGINE = MergeTree ORDER BY (tenant, ts) TTL _t + INTERVAL {RAW_DAYS} DAY"""

_SUMS = """events SimpleAggregateFunction(sum, UInt64), value SimpleAggregateFunction(sum, Float64),
    users AggregateFunction(uniqCombined64(14), UInt64), w SimpleAggregateFunction(max, UInt64)"""


def _by_time(table: str, days: int) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {table} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), country UInt16, device UInt8, bot UInt8, {_SUMS}
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, at, country, device, bot)
TTL at + INTERVAL {days} DAY WHERE tenant != 0"""


_ITEM_1M = f"""
CREATE TABLE IF NOT EXISTS {ITEM_1M} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), hour DateTime('UTC'), item UInt64, at DateTime('UTC'), bot UInt8,
    name SimpleAggregateFunction(max, String), {_SUMS}
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, hour, item, at, bot)
TTL at + INTERVAL {questions.BY_ITEM.days} DAY WHERE tenant != 0"""

_ITEM_TOTALS = f"""
CREATE TABLE IF NOT EXISTS {ITEM_TOTALS} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), item UInt64, events SimpleAggregateFunction(sum, UInt64),
    nonbots SimpleAggregateFunction(sum, UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, item)"""

_STATEMENTS = (
    _RAW,
    _FRAMES,
    _BATCHES,
    _PARKED,
    _by_time(EV_1S, questions.BY_SECOND.days),
    _by_time(EV_1M, questions.BY_MINUTE.days),
    _by_time(EV_1H, questions.BY_HOUR.days),
    _ITEM_1M,
    _ITEM_TOTALS,
)


_GROUPS = "sum(part.events) AS events, sum(part.value) AS value, uniqCombined64MergeState(14)(part.users) AS users, max(part.w) AS w"


def _coarser(start: str) -> str:
    return f"""
SELECT _p, tenant, kind, {start}(part.at) AS at, country, device, bot, {_GROUPS}
FROM {BY_TIME} AS part GROUP BY _p, tenant, kind, at, country, device, bot"""


_TOTALS = f"""
SELECT _p, tenant, kind, item, sum(part.events) AS events, sumIf(part.events, bot = 0) AS nonbots, max(part.w) AS w
FROM {BY_ITEM} AS part GROUP BY _p, tenant, kind, item"""

_VIEWS = {
    EV_1S: f"SELECT * FROM {BY_TIME}",
    EV_1M: _coarser("toStartOfMinute"),
    EV_1H: _coarser("toStartOfHour"),
    ITEM_1M: f"SELECT * FROM {BY_ITEM}",
    ITEM_TOTALS: _TOTALS,
}

PARTS_PER_MERGE_MIN = 20
"""Parts that a merge takes at least. Parts come every second, and merging them a few at a time would write each row five times."""

GRANULE_BYTES = 262_144
"""What is read at least of a rollup by time. A full sketch of users has 12 KB, so the engine's own 10 MB would be the sketches of hundreds
of groups, read for a question about one of them. The engine changes it in no table: those of earlier versions keep theirs."""


async def create(store: ClickHouse, deduplication_window: int) -> None:
    """Makes the tables that are not there; `deduplication_window` holds for old ones too."""
    await store.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    window = f"non_replicated_deduplication_window = {deduplication_window}"
    for table, statement in zip(TABLES, _STATEMENTS, strict=True):
        settings = f"{window}, min_parts_to_merge_at_once = {PARTS_PER_MERGE_MIN}"
        granules = f", index_granularity_bytes = {GRANULE_BYTES}" if table in PASSED_ON[BY_TIME] else ""
        await store.execute(f"{statement} SETTINGS {settings}{granules}")
        await store.execute(f"ALTER TABLE {table} MODIFY SETTING {settings}")
    for each in _FRAMES_BESIDE:
        await store.execute(f"ALTER TABLE {FRAMES} ADD {each}")
    for passing, rollups in PASSED_ON.items():
        await store.execute(f"CREATE TABLE IF NOT EXISTS {passing} AS {rollups[0]} ENGINE = Null")
        for rollup in rollups:
            view = f"{rollup}_added"
            await store.execute(f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO {rollup} AS {_VIEWS[rollup]}")
