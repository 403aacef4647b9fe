"""The tables: raw events, their rollups, and the books.

Two things make every number exact without a lock or a transaction:

- every table remembers the tokens of its inserts (`non_replicated_deduplication_window`, 0 by default, which would count twice);
- a rollup table is parted by the log's partition alone (`_known` parts nothing), so that one range of offsets becomes one part, which
  holds a marker (tenant 0, kind '') whose `w` is the first offset beyond the range: whoever sees the rows sees the marker.

`frames` holds one row for each frame and tenant, and for each stored range a row of tenant 0, written after the range's rows: the
store itself knows how far it is.

Rollups of one kind come from one grouping of the raw rows: its groups go through a table that keeps nothing, and views pass them on to
the rollups, the coarser ones grouped once more. Two rollups came after version 0.1.0. Beside older ones that hold something they are filled
from those, and what passes groups on has new names: writers of an earlier version, which do not know them, leave the new ones behind,
where their markers tell, and never with a hole below their markers.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell.analytics.model import questions
from groundswell.analytics.store import filling
from groundswell.kernel.bus import frames
from groundswell.kernel.clickhouse import ClickHouse

DATABASE = "analytics"
EV, FRAMES, BATCHES, PARKED = (f"{DATABASE}.{name}" for name in ("ev", "frames", "batches", "parked"))
EV_1S, EV_1M, EV_1H, EV_1H_DEVICES, ITEM_1M, ITEM_1H, ITEM_TOTALS = (
    f"{DATABASE}.{name}" for name in ("ev_1s", "ev_1m", "ev_1h", "ev_1h_devices", "item_1m", "item_1h", "item_totals")
)
ROLLUPS = (EV_1S, EV_1M, EV_1H, EV_1H_DEVICES, ITEM_1M, ITEM_1H, ITEM_TOTALS)
BY_TIME, BY_ITEM = (f"{DATABASE}.{name}" for name in ("by_second", "by_item_minute"))
"""Through these groups go into their rollups. They keep nothing. Version 0.1.0 had its own, `by_time` and `by_item`."""
PASSED_ON = {BY_TIME: (EV_1S, EV_1M, EV_1H, EV_1H_DEVICES), BY_ITEM: (ITEM_1M, ITEM_1H, ITEM_TOTALS)}
_BY_HOUR = f"{DATABASE}.by_hour"
"""Between `BY_TIME` and the rollups by hour, so that the sketches of seconds are merged once for both of them."""
TABLES = (EV, FRAMES, BATCHES, PARKED, *ROLLUPS)

RAW_DAYS = questions.RAW.days
BATCH_DAYS = 9
"""How long a client batch is known again: its request id is good for one day, and the log may hold the last try for a week and more
before a writer that was away reads it."""


HOUR_S = 3_600


def raw_parts(rows: pa.Table) -> npt.NDArray[np.int64]:
    """`RAW_PART` of each of these rows, which are as the store gets them; of a time that the store cannot tell, no part that it has."""
    hours: npt.NDArray[np.int64] = rows.column("ts").cast(pa.int64()).to_numpy() // (HOUR_S * 1_000)
    return np.where((rows.column("flags").to_numpy() & frames.LATE) == 0, hours, 0)


RAW_PART = f"if(bitAnd(flags, {frames.LATE}) = 0, intDiv(toUnixTimestamp(ts), {HOUR_S}), 0)"
"""What parts the raw rows of a partition of the log: their hour. Late rows, of up to a month, share one part, or somebody who sends a
few of every hour would make more parts than are ever merged."""


def _known(column: str) -> str:
    """What makes the engine keep in memory from where to where the column goes in each part, and parts nothing: it is always 0.

    What is looked for by offset or marker is then looked for in the few parts that can have it, and the others, which grow in number
    until they are merged, cost nothing. A part that is looked into costs a millisecond. Tables of earlier versions go without.
    """
    return f"bitAnd({column}, 0)"


_LOG_PLACE = "_p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4)"

_RAW = f"""
CREATE TABLE IF NOT EXISTS {EV} (
    ts DateTime64(3, 'UTC') CODEC(Delta, LZ4), kind LowCardinality(String), tenant UInt64, item UInt64, user UInt64,
    network UInt32, country UInt16, device UInt8, flags UInt8, value Float64, props String, name String, {_LOG_PLACE},
    INDEX by_offset _o TYPE minmax GRANULARITY 16
) ENGINE = MergeTree PARTITION BY (_p, {RAW_PART}, {_known("_o")}) ORDER BY (tenant, kind, item, ts)
TTL _t + INTERVAL {RAW_DAYS} DAY"""

_FRAMES = f"""
CREATE TABLE IF NOT EXISTS {FRAMES} (
    tenant UInt64, {_LOG_PLACE}, producer UInt64, seq UInt64, accepted UInt32, parked UInt32, duplicate UInt8
) ENGINE = MergeTree PARTITION BY ({_known("_p")}, {_known("_o")}) ORDER BY (tenant, _p, _o) TTL _t + INTERVAL {RAW_DAYS} DAY"""

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


def _by_time(table: str, days: int, places: str = "country, device") -> str:
    typed = "".join(f"{name} {_PLACES[name]}, " for name in places.split(", "))
    return f"""
CREATE TABLE IF NOT EXISTS {table} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), {typed}bot UInt8, {_SUMS}
) ENGINE = AggregatingMergeTree PARTITION BY (_p, {_known("w")}) ORDER BY (tenant, kind, at, {places}, bot)
TTL at + INTERVAL {days} DAY WHERE tenant != 0"""


_PLACES = {"country": "UInt16", "device": "UInt8"}


def _item_1m(table: str) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {table} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), hour DateTime('UTC'), item UInt64, at DateTime('UTC'), bot UInt8,
    name SimpleAggregateFunction(max, String), {_SUMS}
) ENGINE = AggregatingMergeTree PARTITION BY (_p, {_known("w")}) ORDER BY (tenant, kind, hour, item, at, bot)
TTL at + INTERVAL {questions.ITEM_BY_MINUTE.days} DAY WHERE tenant != 0"""


def _item_1h(table: str) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {table} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), item UInt64, bot UInt8,
    name SimpleAggregateFunction(max, String), {_SUMS}
) ENGINE = AggregatingMergeTree PARTITION BY (_p, {_known("w")}) ORDER BY (tenant, kind, at, item, bot)
TTL at + INTERVAL {questions.ITEM_BY_HOUR.days} DAY WHERE tenant != 0"""


def _item_totals(table: str) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {table} (
    _p UInt8, tenant UInt64, kind LowCardinality(String), item UInt64, events SimpleAggregateFunction(sum, UInt64),
    nonbots SimpleAggregateFunction(sum, UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY (_p, {_known("w")}) ORDER BY (tenant, kind, item)"""


_DEFINITIONS: dict[str, Callable[[str], str]] = {
    EV: lambda _: _RAW,
    FRAMES: lambda _: _FRAMES,
    BATCHES: lambda _: _BATCHES,
    PARKED: lambda _: _PARKED,
    EV_1S: lambda table: _by_time(table, questions.BY_SECOND.days),
    EV_1M: lambda table: _by_time(table, questions.BY_MINUTE.days),
    EV_1H: lambda table: _by_time(table, questions.BY_HOUR.days),
    EV_1H_DEVICES: lambda table: _by_time(table, questions.BY_HOUR_AND_DEVICE.days, "device"),
    ITEM_1M: _item_1m,
    ITEM_1H: _item_1h,
    ITEM_TOTALS: _item_totals,
}

_GROUPS = "sum(part.events) AS events, sum(part.value) AS value, uniqCombined64MergeState(14)(part.users) AS users, max(part.w) AS w"
_MERGED = "sum(part.events), sum(part.value), uniqCombined64MergeState(14)(part.users), max(part.w)"


def _coarser(source: str, at: str, places: str = "country, device") -> str:
    return f"""
SELECT _p, tenant, kind, {at} AS at, {places}, bot, {_GROUPS}
FROM {source} AS part GROUP BY _p, tenant, kind, at, {places}, bot"""


_ITEMS_BY_HOUR = f"SELECT _p, tenant, kind, hour AS at, item, bot, name, events, value, users, w FROM {BY_ITEM}"
"""Not grouped once more: a rollup's seconds are nearly always of one minute, and merging their sketches would find nothing to merge."""

_TOTALS = f"""
SELECT _p, tenant, kind, item, sum(part.events) AS events, sumIf(part.events, bot = 0) AS nonbots, max(part.w) AS w
FROM {BY_ITEM} AS part GROUP BY _p, tenant, kind, item"""

_VIEWS = {
    EV_1S: f"SELECT * FROM {BY_TIME}",
    EV_1M: _coarser(BY_TIME, "toStartOfMinute(part.at)"),
    EV_1H: f"SELECT * FROM {_BY_HOUR}",
    EV_1H_DEVICES: _coarser(_BY_HOUR, "part.at", "device"),
    _BY_HOUR: _coarser(BY_TIME, "toStartOfHour(part.at)"),
    ITEM_1M: f"SELECT * FROM {BY_ITEM}",
    ITEM_1H: _ITEMS_BY_HOUR,
    ITEM_TOTALS: _TOTALS,
}
"""What each table gets of those that keep nothing."""

_DEVICES_OF_HOURS = f"""
(_p, tenant, kind, at, device, bot, events, value, users, w)
SELECT part._p, part.tenant, part.kind, part.at, part.device, part.bot, {_MERGED}
FROM {EV_1H} AS part WHERE part._p = {{p:UInt8}}
GROUP BY part._p, part.tenant, part.kind, part.at, part.device, part.bot"""

_HOURS_OF_MINUTES = f"""
(_p, tenant, kind, at, item, bot, name, events, value, users, w)
SELECT part._p, part.tenant, part.kind, part.hour, part.item, part.bot, max(part.name), {_MERGED}
FROM {ITEM_1M} AS part WHERE part._p = {{p:UInt8}}
GROUP BY part._p, part.tenant, part.kind, part.hour, part.item, part.bot"""

FILLED_FROM = {EV_1H_DEVICES: (EV_1H, _DEVICES_OF_HOURS), ITEM_1H: (ITEM_1M, _HOURS_OF_MINUTES)}
"""Where a rollup that is new to a store gets what there is: from which one, and how, for one partition with its marker."""

PARTS_PER_MERGE_MIN = 20
"""Parts that a merge takes at least. Parts come every second, and merging them a few at a time would write each row five times."""

TTL_PAUSE_S = 3 * 86_400
"""How long a partition of a table rests at least between two merges that are made only to take out rows whose time is over. Each writes the
whole part again, and the oldest rows lie in the biggest: at the engine's own four hours it would be written six times a day for ever. Rows
stay so much longer, which no question reaches. A part that holds nothing else, as an hour of raw rows, goes at once."""
_TTL = f"merge_with_ttl_timeout = {TTL_PAUSE_S}"
_MERGES = f"min_parts_to_merge_at_once = {PARTS_PER_MERGE_MIN}, {_TTL}"

RAW_PARTS_PER_MERGE_MIN = 60
RAW_WHOLE_AFTER_S = 600
WIDE_PART_BYTES = 64 << 20
_RAW_SETTINGS = (
    f"min_parts_to_merge_at_once = {RAW_PARTS_PER_MERGE_MIN}, min_age_to_force_merge_seconds = {RAW_WHOLE_AFTER_S}, "
    f"min_age_to_force_merge_on_partition_only = 1, min_bytes_for_wide_part = {WIDE_PART_BYTES}, {_TTL}"
)
"""A busy row is written three times instead of once for each level of merges: as it comes, with those of its minute, and with all of its
hour, ten minutes after that is over. Without the last, what no merge wants would stay: dozens of parts for each of a month's hours and of
the log's partitions, more than the engine allows a table (`max_parts_in_total`), which then takes nothing more.

Small parts are two files instead of two for each column: at the engine's own 10 MB a busy second would make hundreds of files, which a
merge removes a minute later. Rollups are read by a column or two, and keep to the engine's."""

GRANULE_BYTES = 262_144
"""What is read at least of a rollup by time. A full sketch of users has 12 KB, so the engine's own 10 MB would be the sketches of hundreds
of groups, read for a question about one of them. The engine changes it in no table: those of earlier versions keep theirs."""


FEW_ROWS = 256
"""Rows that are read at least where a few are looked for among many: items of `item_1h` with their users among fifty thousand others, the
items that a rollup has touched among all that a tenant ever had, the client batches of a range among nine days'. As with the bytes, tables
of earlier versions keep theirs, and so read 8,192 rows for each."""
_GRANULES = dict.fromkeys(PASSED_ON[BY_TIME], f", index_granularity_bytes = {GRANULE_BYTES}")
_GRANULES |= dict.fromkeys((ITEM_1H, ITEM_TOTALS, BATCHES), f", index_granularity = {FEW_ROWS}")


async def create(store: ClickHouse, deduplication_window: int, instance: str = "") -> None:
    """Makes the tables that are not there; `deduplication_window` holds for old ones too. A process whose name `instance` is goes on
    with what it was at when it was cut short."""
    await store.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    window = f"non_replicated_deduplication_window = {deduplication_window}"
    for table in TABLES:
        settings = f"{window}, {_RAW_SETTINGS if table == EV else _MERGES}"
        if table in FILLED_FROM:
            await filling.make(store, _filling(table, settings), instance)
        else:
            await store.execute(_defined(table, settings, table))
        await store.execute(f"ALTER TABLE {table} MODIFY SETTING {settings}")
    added = ", ".join(f"ADD {each}" for each in _FRAMES_BESIDE)
    await store.execute(f"ALTER TABLE {FRAMES} {added}")
    await _feed(store)


async def known(store: ClickHouse, column: str) -> frozenset[str]:
    """The tables of whose parts the engine has in memory from where to where the column goes; not those of earlier versions."""
    answer = await store.query(
        "SELECT concat(database, '.', name) FROM system.tables WHERE database = {d:String} AND position(partition_key, {k:String}) > 0",
        {"d": DATABASE, "k": _known(column)},
        own=True,
    )
    return frozenset(str(name) for (name,) in answer.rows)


async def fill_again(store: ClickHouse, table: str, partition: int, options: Mapping[str, str | int]) -> None:
    """Puts in the place of a partition of `table`, one of `FILLED_FROM`, what the finer rollup holds: for whoever alone adds to it."""
    await filling.again(store, _filling(table, _MERGES), partition, options)


def _filling(table: str, settings: str) -> filling.Filling:
    source, rows = FILLED_FROM[table]
    return filling.Filling(table, partial(_defined, table, settings), source, rows)


def _defined(table: str, settings: str, name: str) -> str:
    """The statement that makes `table` under this name."""
    return f"{_DEFINITIONS[table](name)} SETTINGS {settings}{_GRANULES.get(table, '')}"


async def _feed(store: ClickHouse) -> None:
    """Makes what passes groups on."""
    for passing, columns_of in ((BY_TIME, EV_1S), (_BY_HOUR, EV_1H), (BY_ITEM, ITEM_1M)):
        await store.execute(f"CREATE TABLE IF NOT EXISTS {passing} AS {columns_of} ENGINE = Null")
    for table, rows in _VIEWS.items():
        await store.execute(f"CREATE MATERIALIZED VIEW IF NOT EXISTS {table}_passed TO {table} AS {rows}")
