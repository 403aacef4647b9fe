"""Questions as SQL: rollups up to their markers, and the raw rows beyond them, in one statement.

The rows of a rollup and its marker are one part, so one scan that gives both tells how far the rows that it gave reach. That need not
be what the raw rows were cut at: those bounds were read before, and a rollup may have been added since. So every statement returns the
markers that its scans met, and an answer counts only when they are the bounds it was cut at; otherwise it is asked again with the new
ones, and the last time with the rollups held still. Without that, rows between both would be missing or there twice.

Items with most events are asked for in two statements. The first one finds which they are, by what decides that alone; the second reads
names and sketches of users of those, a few thousandths of all. It lies between two readings of the markers, so where they are equal it
saw what the second one saw, but for raw rows that came in the tenth of a second between both: those can change an item's place at the
end of the answer, and no figure.

The tenant is bound in every SELECT on every table, and nothing of a caller's is text of a statement.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from groundswell.analytics import errors
from groundswell.analytics.model.questions import (
    BY_HOUR,
    BY_HOUR_AND_DEVICE,
    INTERVALS_MS,
    ITEM_BY_HOUR,
    ITEM_BY_MINUTE,
    RAW,
    Filter,
    Level,
    Plan,
    Question,
    Stretch,
    plan,
)
from groundswell.analytics.store import schema
from groundswell.kernel.clickhouse import Answer, ClickHouse
from groundswell.kernel.errors import DeadlineExceeded

_TYPES = {
    "kind": "String",
    "item": "UInt64",
    "country": "UInt16",
    "device": "UInt8",
    "bot": "UInt8",
    "network": "UInt32",
}
_MARKER = "tenant = 0 AND kind = ''"
_MARKS_OF_LEVEL = 256
"""Partitions are numbered in a byte; a marker's place in an answer is its level and its partition."""
FINER = {BY_HOUR_AND_DEVICE: BY_HOUR, ITEM_BY_HOUR: ITEM_BY_MINUTE}
"""Of the rollups that came later, which one answers the same."""
BEHIND_MAX = 2_000
"""A rollup that is so many offsets of a partition behind the finer one has a gap that is being closed, and the finer one answers: what
lies beyond a marker is read raw."""
TRIES = 3
STILL_S_MAX = 2.0
"""How long a question may hold the rollups still."""
ITEMS_CHOSEN_MAX = 1_000
"""Items that are chosen before they are read; an answer with more of them is nearly as much to read as all."""
_NO_USERS = "0 AS users"
"""Where nobody asks for users their states, the biggest column, are not read."""


Marks = dict[str, dict[int, int]]
"""By level and partition: the first offset that the level's rollup does not hold."""
_STORED = "stored"
"""Stands for the raw rows among the levels."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows as (time in ms or 0, dimension values, item's name, measures), with what was read for them."""

    rows: list[tuple[int, tuple[int | str, ...], str, tuple[float, ...]]]
    level: str
    rows_read: int
    as_of: list[int]


@dataclass(frozen=True, slots=True)
class _Time:
    """Until when a question may take, over all its statements. While it is `still` rollups wait for it, and it for no other question."""

    until_s: float
    still: bool = False

    async def query(self, store: ClickHouse, sql: str, values: Mapping[str, Any] | None = None) -> Answer:
        return await store.query(sql, values, seconds_max=self.until_s - time.monotonic(), own=self.still)


@dataclass(slots=True)
class _Bound:
    """Values on their way into a statement."""

    values: dict[str, Any] = field(default_factory=dict)
    _names: dict[tuple[str, Any], str] = field(default_factory=dict)

    def add(self, value: Any, kind: str) -> str:
        """The parameter that stands for `value`: one for all SELECTs of the statement, since a server is told values in its address."""
        key = kind, tuple(value) if isinstance(value, list) else value
        if key not in self._names:
            self._names[key] = f"v{len(self.values)}"
            self.values[self._names[key]] = value
        return f"{{{self._names[key]}:{kind}}}"


class QueryStore:
    """Answers questions of one tenant at a time."""

    def __init__(self, store: ClickHouse, partitions: int, adding: asyncio.Lock) -> None:
        """`adding` is held by whoever in this process adds to a rollup."""
        self._store, self._partitions, self._adding = store, partitions, adding
        self._still = asyncio.Lock()

    async def answer(self, tenant: int, question: Question, seconds_max: float = math.inf) -> Found:
        """The rows of a checked question; raises `StoreBusy` when rollups of other processes move all the time, `DeadlineExceeded`."""
        limit = _Time(time.monotonic() + seconds_max)
        levels = plan(question)
        known = await self._marks({*levels, *(FINER[level] for level in levels if level in FINER)}, limit)
        as_of = [known[_STORED].get(p, 0) for p in range(self._partitions)]
        for coarser, finer in FINER.items():
            if coarser in levels and _is_behind(known[coarser.name], known[finer.name]):
                levels = _instead(levels, coarser, finer)
        marks = {level.name: known[level.name] for level in levels if level is not RAW}
        for _ in range(TRIES):
            found, met = await self._tried(tenant, question, levels, marks, as_of, limit)
            if met == marks:
                return found
            marks = met
        return await self._while_still(tenant, question, levels, marks, as_of, limit.until_s)

    async def _while_still(
        self, tenant: int, question: Question, levels: Plan, marks: Marks, as_of: list[int], until_s: float
    ) -> Found:
        """An answer while nobody in this process adds to a rollup: one question at a time, and not for long, since rollups wait for it."""
        try:
            async with self._still, self._adding:
                limit = _Time(min(until_s, time.monotonic() + STILL_S_MAX), still=True)
                known = await self._marks(levels, limit)
                marks = {name: known[name] for name in marks}
                found, met = await self._tried(tenant, question, levels, marks, as_of, limit)
        except DeadlineExceeded as error:
            raise errors.StoreBusy from error
        if met != marks:
            raise errors.StoreBusy
        return found

    async def _tried(
        self,
        tenant: int,
        question: Question,
        levels: Plan,
        marks: Marks,
        as_of: list[int],
        limit: _Time,
    ) -> tuple[Found, Marks]:
        """An answer cut at `marks`, and the marks that its scans met."""
        deciding = _deciding(question) if ITEM_BY_HOUR in levels else None
        if deciding is not None:
            question = await self._narrowed(tenant, question, deciding, levels, marks, limit)
        bound = _Bound()
        sources = [
            source
            for number, (level, stretches) in enumerate(levels.items())
            for source in self._sources(bound, tenant, question, (number, level), stretches, marks.get(level.name, {}))
        ]
        sql = _outer(question, sources, bound, len(levels) * self._partitions)
        found = await limit.query(self._store, sql, bound.values)
        finest = min(levels, key=lambda level: level.bucket_ms)
        rows = [row for row in found.rows if row[0] >= 0]
        met: Marks = {name: {} for name in marks}
        for row in found.rows[: len(found.rows) - len(rows)]:
            number, partition = divmod(-int(row[0]) - 1, _MARKS_OF_LEVEL)
            met[[*levels][number].name][partition] = int(row[-1])
        return Found(_rows(question, rows), finest.name, found.rows_read, as_of), met

    async def _narrowed(
        self, tenant: int, question: Question, deciding: Question, levels: Plan, marks: Marks, limit: _Time
    ) -> Question:
        """The question about the items alone that its answer has."""
        bound = _Bound()
        sources = [
            source
            for number, (level, stretches) in enumerate(levels.items())
            for source in self._sources(
                bound, tenant, deciding, (number, level), stretches, marks.get(level.name, {}), marked=False
            )
        ]
        found = await limit.query(self._store, _chosen(deciding, sources, bound), bound.values)
        items = tuple({int(row[0]) for row in found.rows})
        return replace(question, filters=(*question.filters, Filter("item", items))) if items else question

    async def _marks(self, levels: Iterable[Level], limit: _Time) -> Marks:
        """The marks of all rollups among `levels`, and as `_STORED` the ends of what is stored."""
        names = [level.name for level in levels if level is not RAW]
        scans = [
            f"SELECT '{name}', _p, max(w) FROM {schema.DATABASE}.{name} WHERE {_MARKER} GROUP BY _p" for name in names
        ]
        scans += (  # of each partition the last line of its books, of which there may be millions
            f"SELECT * FROM (SELECT '{_STORED}', _p, _o + 1 FROM {schema.FRAMES} WHERE tenant = 0 AND _p = {p} "
            "ORDER BY tenant DESC, _p DESC, _o DESC LIMIT 1)"
            for p in range(self._partitions)
        )
        marks: Marks = {name: {} for name in (_STORED, *names)}
        for name, p, mark in (await limit.query(self._store, " UNION ALL ".join(scans))).rows:
            marks[name][int(p)] = int(mark)
        return marks

    def _sources(
        self,
        bound: _Bound,
        tenant: int,
        question: Question,
        numbered: tuple[int, Level],
        stretches: Sequence[Stretch],
        marks: Mapping[int, int],
        *,
        marked: bool = True,
    ) -> list[str]:
        if numbered[1] is RAW:
            return [_raw(bound, tenant, question, stretches, "")]
        beyond = [f"_p = {p} AND _o >= {marks.get(p, 0)}" for p in range(self._partitions)]
        rolled = _rolled(bound, tenant, question, numbered, stretches, marked)
        return [rolled, *(_raw(bound, tenant, question, stretches, each) for each in beyond)]


def _is_behind(marks: Mapping[int, int], finer: Mapping[int, int]) -> bool:
    return any(mark > marks.get(p, 0) + BEHIND_MAX for p, mark in finer.items())


def _instead(levels: Plan, coarser: Level, finer: Level) -> Plan:
    """The plan in which `finer` answers what `coarser` was to."""
    chosen: Plan = {}
    for level, stretches in levels.items():
        chosen.setdefault(finer if level is coarser else level, []).extend(stretches)
    return chosen


def _rolled(
    bound: _Bound,
    tenant: int,
    question: Question,
    numbered: tuple[int, Level],
    stretches: Sequence[Stretch],
    marked: bool,
) -> str:
    """The tenant's rows of a rollup, and if they are to be `marked` in the same scan its markers, which come before all time."""
    number, level = numbered
    place = f"-toInt64(1 + {number * _MARKS_OF_LEVEL} + _p)"
    bucket = _bucket(question, "toUnixTimestamp64Milli(toDateTime64(at, 3))")
    columns = [f"if(tenant = 0, {place}, {bucket}) AS t" if marked else f"{bucket} AS t", *question.dimensions]
    columns += ["name" if "item" in question.dimensions else "'' AS name"]
    users = "users" if "users" in question.measures else _NO_USERS
    columns += ["events", "if(bot = 0, events, 0) AS nonbots", "value", users, "w"]
    times = " OR ".join(
        f"(at >= {_time(bound, start, 'DateTime')} AND at < {_time(bound, end, 'DateTime')})"
        for start, end in stretches
    )
    where = [f"tenant = {bound.add(tenant, 'UInt64')}", "kind != ''", f"({times})", *_filters(bound, question, "bot")]
    if level.name == "item_1m":
        hours = " OR ".join(
            f"(hour >= toStartOfHour({_time(bound, start, 'DateTime')}) AND hour < {_time(bound, end, 'DateTime')})"
            for start, end in stretches
        )
        where.append(f"({hours})")
    rows = f"({' AND '.join(where)}) OR ({_MARKER})" if marked else " AND ".join(where)
    return f"SELECT {', '.join(columns)} FROM {schema.DATABASE}.{level.name} WHERE {rows}"


def _raw(bound: _Bound, tenant: int, question: Question, stretches: Sequence[Stretch], beyond: str) -> str:
    bot = "bitAnd(flags, 1)"
    columns = [f"{_bucket(question, 'toUnixTimestamp64Milli(ts)')} AS t"]
    columns += [f"{bot} AS bot" if name == "bot" else name for name in question.dimensions]
    columns += ["max(ev.name) AS name" if "item" in question.dimensions else "'' AS name"]
    state = "uniqExactState(user)" if question.wants_exact_users else "uniqCombined64State(14)(user)"
    users = f"{state} AS users" if "users" in question.measures else _NO_USERS
    columns += ["count() AS events", f"countIf({bot} = 0) AS nonbots", "sum(ev.value) AS value", users]
    columns += ["toUInt64(0) AS w"]
    times = " OR ".join(
        f"(ts >= {_time(bound, start, 'DateTime64(3)')} AND ts < {_time(bound, end, 'DateTime64(3)')})"
        for start, end in stretches
    )
    where = [f"tenant = {bound.add(tenant, 'UInt64')}", f"({times})", *_filters(bound, question, bot)]
    where += [beyond] if beyond else []
    group = ", ".join(["t", *question.dimensions])
    return f"SELECT {', '.join(columns)} FROM {schema.EV} AS ev WHERE {' AND '.join(where)} GROUP BY {group}"


def _outer(question: Question, sources: Sequence[str], bound: _Bound, marks_max: int) -> str:
    measures = _measures(question)
    columns = ["t", *question.dimensions, "max(name) AS item_name"]
    columns += [f"{measures[name]} AS m_{name}" for name in question.measures]
    sql = f"SELECT {', '.join(columns)}, max(w) AS mark FROM ({' UNION ALL '.join(sources)})"
    sql += f" GROUP BY {', '.join(['t', *question.dimensions])} HAVING t < 0 OR sum(events) > 0"
    return f"{sql} ORDER BY t >= 0, {_order(question)} LIMIT {bound.add(question.limit + marks_max, 'UInt32')}"


def _measures(question: Question) -> dict[str, str]:
    merge = "uniqExactMerge" if question.wants_exact_users else "uniqCombined64Merge(14)"
    return {
        "events": "sum(events)",
        "users": f"{merge}(users)",
        "nonbots": "sum(nonbots)",
        "bots": "sum(events) - sum(nonbots)",
        "value": "sum(value)",
    }


def _deciding(question: Question) -> Question | None:
    """What decides which items an answer has, where that is less to read than the answer: never their users, and never the time."""
    by = question.order.removeprefix("-") or ("time" if question.interval else question.measures[0])
    if "item" not in question.dimensions or question.limit > ITEMS_CHOSEN_MAX or by in ("users", "time"):
        return None
    return replace(question, measures=(by,))


def _chosen(deciding: Question, sources: Sequence[str], bound: _Bound) -> str:
    """The items of the answer's rows. Only what tells its rows apart is grouped by: one number where it can be."""
    (by,) = deciding.measures
    keys = [*(["t"] if deciding.interval else []), *deciding.dimensions]
    order = f"m_{by} {'ASC' if deciding.order == by else 'DESC'}, {', '.join(keys)}"
    return (
        f"SELECT item, {_measures(deciding)[by]} AS m_{by} FROM ({' UNION ALL '.join(sources)}) GROUP BY {', '.join(keys)} "
        f"HAVING sum(events) > 0 ORDER BY {order} LIMIT {bound.add(deciding.limit, 'UInt32')}"
    )


def _order(question: Question) -> str:
    ties = ", ".join(["t", *question.dimensions])
    if question.order:
        name = question.order.removeprefix("-")
        column = "t" if name == "time" else f"m_{name}"
        return f"{column} {'DESC' if question.order.startswith('-') else 'ASC'}, {ties}"
    return ties if question.interval else f"m_{question.measures[0]} DESC, {ties}"


def _bucket(question: Question, time: str) -> str:
    interval = INTERVALS_MS[question.interval]
    return f"intDiv({time}, {interval}) * {interval}" if interval else "toInt64(0)"


def _time(bound: _Bound, time_ms: int, kind: str) -> str:
    if kind == "DateTime":
        return f"toDateTime({bound.add(time_ms // 1000, 'Int64')}, 'UTC')"
    return f"fromUnixTimestamp64Milli({bound.add(time_ms, 'Int64')}, 'UTC')"


def _filters(bound: _Bound, question: Question, bot: str) -> list[str]:
    clauses = []
    for each in question.filters:
        column = bot if each.dimension == "bot" else each.dimension
        kind = f"Array({_TYPES[each.dimension]})"
        negated = "NOT " if each.exclude else ""
        values = bound.add(list(each.values), kind)
        # By an item's place in the key a table reads a part of its rows, which the engine sees of `IN` only.
        clauses.append(f"{negated}({column} IN {values})" if column == "item" else f"{negated}has({values}, {column})")
    return clauses


def _rows(
    question: Question, found: Sequence[Sequence[Any]]
) -> list[tuple[int, tuple[int | str, ...], str, tuple[float, ...]]]:
    split = 1 + len(question.dimensions)
    return [
        (int(row[0]), tuple(row[1:split]), str(row[split]), tuple(float(value) for value in row[split + 1 : -1]))
        for row in found[: question.limit]
    ]
