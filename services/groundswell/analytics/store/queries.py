"""Questions as SQL: rollups up to their marker, and the raw rows beyond it, in one statement.

A statement sees one snapshot of each table, and a rollup's rows and marker are one part: so what the marker says is true of the
rows that the same statement reads, also while a rollup is being written. Constants read before only help to skip old raw parts;
markers never go back. The tenant is bound in every SELECT on every table, and nothing of a caller's is text of a statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groundswell.analytics.model.questions import INTERVALS_MS, RAW, Level, Question, Stretch, plan
from groundswell.analytics.store import schema
from groundswell.kernel.clickhouse import Answer, ClickHouse

_TYPES = {
    "kind": "String",
    "item": "UInt64",
    "country": "UInt16",
    "device": "UInt8",
    "bot": "UInt8",
    "network": "UInt32",
}
_MARKER = "tenant = 0 AND kind = ''"
_NO_USERS = "0 AS users"
"""Where nobody asks for users their states, the biggest column, are not read."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows as (time in ms or 0, dimension values, item's name, measures), with what was read for them."""

    rows: list[tuple[int, tuple[int | str, ...], str, tuple[float, ...]]]
    level: str
    rows_read: int
    as_of: list[int]


@dataclass(slots=True)
class _Bound:
    """Values on their way into a statement."""

    values: dict[str, Any] = field(default_factory=dict)

    def add(self, value: Any, kind: str) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"


class QueryStore:
    """Answers questions of one tenant at a time."""

    def __init__(self, store: ClickHouse, partitions: int) -> None:
        self._store, self._partitions = store, partitions

    async def answer(self, tenant: int, question: Question) -> Found:
        """The rows of a checked question."""
        as_of = await self._as_of()
        levels = plan(question)
        lows = {level: await self._marks(level) for level in levels if level is not RAW}
        bound = _Bound()
        sources = [
            source
            for level, stretches in levels.items()
            for source in self._sources(bound, tenant, question, level, stretches, lows.get(level, {}))
        ]
        found = await self._store.query(_outer(question, sources, bound, levels), bound.values)
        finest = min(levels, key=lambda level: level.bucket_ms)
        return Found(_rows(question, found), finest.name, found.rows_read, as_of)

    async def _as_of(self) -> list[int]:
        answer = await self._store.query(f"SELECT _p, max(_o) + 1 FROM {schema.FRAMES} WHERE tenant = 0 GROUP BY _p")
        ends = {int(p): int(end) for p, end in answer.rows}
        return [ends.get(p, 0) for p in range(self._partitions)]

    async def _marks(self, level: Level) -> dict[int, int]:
        sql = f"SELECT _p, max(w) FROM {schema.DATABASE}.{level.name} WHERE {_MARKER} GROUP BY _p"
        return {int(p): int(mark) for p, mark in (await self._store.query(sql)).rows}

    def _sources(
        self,
        bound: _Bound,
        tenant: int,
        question: Question,
        level: Level,
        stretches: Sequence[Stretch],
        lows: Mapping[int, int],
    ) -> list[str]:
        if level is RAW:
            return [_raw(bound, tenant, question, stretches, "")]
        sources = [_rolled(bound, tenant, question, level, stretches)]
        for p in range(self._partitions):
            beyond = f"_p = {p} AND _o >= {lows.get(p, 0)} AND _o >= marks_{level.name}[{p}]"
            sources.append(_raw(bound, tenant, question, stretches, beyond))
        return sources


def _rolled(bound: _Bound, tenant: int, question: Question, level: Level, stretches: Sequence[Stretch]) -> str:
    columns = [f"{_bucket(question, 'toUnixTimestamp64Milli(toDateTime64(at, 3))')} AS t", *question.dimensions]
    columns += ["name" if "item" in question.dimensions else "'' AS name"]
    users = "users" if "users" in question.measures else _NO_USERS
    columns += ["events", "if(bot = 0, events, 0) AS nonbots", "value", users]
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
    return f"SELECT {', '.join(columns)} FROM {schema.DATABASE}.{level.name} WHERE {' AND '.join(where)}"


def _raw(bound: _Bound, tenant: int, question: Question, stretches: Sequence[Stretch], beyond: str) -> str:
    bot = "bitAnd(flags, 1)"
    columns = [f"{_bucket(question, 'toUnixTimestamp64Milli(ts)')} AS t"]
    columns += [f"{bot} AS bot" if name == "bot" else name for name in question.dimensions]
    columns += ["max(ev.name) AS name" if "item" in question.dimensions else "'' AS name"]
    state = "uniqExactState(user)" if question.wants_exact_users else "uniqCombined64State(14)(user)"
    users = f"{state} AS users" if "users" in question.measures else _NO_USERS
    columns += ["count() AS events", f"countIf({bot} = 0) AS nonbots", "sum(ev.value) AS value", users]
    times = " OR ".join(
        f"(ts >= {_time(bound, start, 'DateTime64(3)')} AND ts < {_time(bound, end, 'DateTime64(3)')})"
        for start, end in stretches
    )
    where = [f"tenant = {bound.add(tenant, 'UInt64')}", f"({times})", *_filters(bound, question, bot)]
    where += [beyond] if beyond else []
    group = ", ".join(["t", *question.dimensions])
    return f"SELECT {', '.join(columns)} FROM {schema.EV} AS ev WHERE {' AND '.join(where)} GROUP BY {group}"


def _outer(question: Question, sources: Sequence[str], bound: _Bound, levels: Mapping[Level, object]) -> str:
    merge = "uniqExactMerge" if question.wants_exact_users else "uniqCombined64Merge(14)"
    measures = {
        "events": "sum(events)",
        "users": f"{merge}(users)",
        "nonbots": "sum(nonbots)",
        "bots": "sum(events) - sum(nonbots)",
        "value": "sum(value)",
    }
    columns = ["t", *question.dimensions, "max(name) AS item_name"]
    columns += [f"{measures[name]} AS m_{name}" for name in question.measures]
    marks = [
        f"(SELECT maxMap(map(_p, w)) FROM {schema.DATABASE}.{level.name} WHERE {_MARKER}) AS marks_{level.name}"
        for level in levels
        if level is not RAW
    ]
    sql = f"WITH {', '.join(marks)} " if marks else ""
    sql += f"SELECT {', '.join(columns)} FROM ({' UNION ALL '.join(sources)})"
    sql += f" GROUP BY {', '.join(['t', *question.dimensions])} HAVING sum(events) > 0"
    return f"{sql} ORDER BY {_order(question)} LIMIT {bound.add(question.limit, 'UInt32')}"


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
        clauses.append(f"{negated}has({bound.add(list(each.values), kind)}, {column})")
    return clauses


def _rows(question: Question, found: Answer) -> list[tuple[int, tuple[int | str, ...], str, tuple[float, ...]]]:
    split = 1 + len(question.dimensions)
    return [
        (int(row[0]), tuple(row[1:split]), str(row[split]), tuple(float(value) for value in row[split + 1 :]))
        for row in found.rows
    ]
