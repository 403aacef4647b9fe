"""Rollups: one grouped insert per table, read back from the raw rows of a range of each partition; and the totals that come of them.

The ranges of all partitions share a statement, since a statement costs more than the rows of a second. Each partition's groups become a
part of their own, with a marker in it, so that a crash leaves each partition's range in a table whole or not at all.

A statement takes of each range only what lies beyond the table's own marker, so that it adds nothing when it is repeated, nor when a
writer wakes up after a successor did its work. A token alone does not make an INSERT … SELECT repeatable: what the store remembers is
derived from the token and from the blocks that the SELECT gives, and a GROUP BY gives one block or hundreds, as the memory of the moment
decides.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import ATTEMPTS_MAX, Range, token
from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, StoreUnavailable, insert_options

_SUMS = "count() AS events, sum(value) AS value, uniqCombined64State(14)(user) AS users"
_NO_SUMS = "toUInt64(0), toFloat64(0), uniqCombined64State(14)(toUInt64(0))"
_FAR = "toDateTime('2100-01-01 00:00:00', 'UTC')"
_MARKS = "(SELECT arrayJoin(arrayZip({p:Array(UInt8)}, {w:Array(UInt64)})) AS mark)"
"""The partitions of the ranges, each with the first offset beyond its range."""


class Total(NamedTuple):
    """All events of one item since the beginning."""

    tenant: int
    kind: str
    item: int
    events: int
    nonbots: int


def _by_time(table: str, start: str) -> str:
    return f"""
INSERT INTO {table} (_p, tenant, kind, at, country, device, bot, events, value, users, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, toDateTime({start}(ts), 'UTC') AS at, country, device, bitAnd(flags, 1) AS bot,
        {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, at, country, device, bot
    UNION ALL
    SELECT mark.1, toUInt64(0), '', {_FAR}, toUInt16(0), toUInt8(0), toUInt8(0), {_NO_SUMS}, mark.2 FROM {_MARKS} GROUP BY mark)"""


_ITEM_1M = f"""
INSERT INTO {schema.ITEM_1M} (_p, tenant, kind, hour, item, at, bot, name, events, value, users, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, toStartOfHour(at) AS hour, item, toDateTime(toStartOfMinute(ts), 'UTC') AS at,
        bitAnd(flags, 1) AS bot, max(name) AS name, {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, item, at, bot
    UNION ALL
    SELECT mark.1, toUInt64(0), '', {_FAR}, toUInt64(0), {_FAR}, toUInt8(0), '', {_NO_SUMS}, mark.2 FROM {_MARKS} GROUP BY mark)"""

_ITEM_TOTALS = f"""
INSERT INTO {schema.ITEM_TOTALS} (_p, tenant, kind, item, events, nonbots, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, item, count() AS events, countIf(bitAnd(flags, 1) = 0) AS nonbots, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, item
    UNION ALL
    SELECT mark.1, toUInt64(0), '', toUInt64(0), toUInt64(0), toUInt64(0), mark.2 FROM {_MARKS} GROUP BY mark)"""

_INSERTS = {
    schema.EV_1S: _by_time(schema.EV_1S, "toStartOfSecond"),
    schema.EV_1M: _by_time(schema.EV_1M, "toStartOfMinute"),
    schema.EV_1H: _by_time(schema.EV_1H, "toStartOfHour"),
    schema.ITEM_1M: _ITEM_1M,
    schema.ITEM_TOTALS: _ITEM_TOTALS,
}


_END = "SELECT max(w) FROM {table} WHERE tenant = 0 AND kind = '' AND _p = {{{p}:UInt8}}"
"""The first offset that a rollup does not hold."""


def statement(table: str, of: Sequence[Range]) -> tuple[str, dict[str, object]]:
    """The insert that adds these ranges, of different partitions, to the rollup `table`, and its parameters."""
    chosen, bound = _chosen(of, beyond=table)
    marks = {"p": [each.partition for each in of], "w": [each.last + 1 for each in of]}
    return _INSERTS[table].replace("{ranges}", chosen), bound | marks


def _chosen(of: Sequence[Range], beyond: str = "") -> tuple[str, dict[str, object]]:
    """The condition on raw rows that these ranges make, less what the rollup `beyond` holds, and its parameters.

    The columns are named with their table: a bare `_p` could mean the column that an insert makes.
    """
    clauses: list[str] = []
    bound: dict[str, object] = {}
    for n, each in enumerate(of):
        first = f"{{a{n}:UInt64}}"
        if beyond:
            first = f"greatest({first}, ({_END.format(table=beyond, p=f'p{n}')}))"
        clauses.append(f"(raw._p = {{p{n}:UInt8}} AND raw._o BETWEEN {first} AND {{b{n}:UInt64}})")
        bound |= {f"p{n}": each.partition, f"a{n}": each.first, f"b{n}": each.last}
    return " OR ".join(clauses), bound


class RollupStore:
    """Writes rollups of ranges and reads totals."""

    def __init__(self, store: ClickHouse, topic: str) -> None:
        self._store, self._topic = store, topic
        self.adding = asyncio.Lock()
        """To be held while rollups are added to: a reader that takes it finds them still."""

    async def write(self, of: Sequence[Range]) -> None:
        """Adds ranges of different partitions to every rollup; doing so again changes nothing."""
        for table in schema.ROLLUPS:
            await self._add(table, of)

    async def write_again(self, of: Sequence[Range]) -> None:
        """Adds ranges to every rollup that does not hold them: for ranges that somebody may have begun."""
        for table in schema.ROLLUPS:
            attempt = 0
            while left := await self._left(table, of):
                if attempt == ATTEMPTS_MAX:
                    raise StoreUnavailable(f"{table} does not take {left}.")
                await self._add(table, left, attempt)
                attempt += 1

    async def _left(self, table: str, of: Sequence[Range]) -> list[Range]:
        ends = await self._ends(table)
        return [each for each in of if ends.get(each.partition, 0) <= each.last]

    async def newest(self) -> dict[int, int]:
        """The first offset of each partition that the last table of a rollup does not hold; none for one of which it holds nothing."""
        return await self._ends(schema.ITEM_TOTALS)

    async def _add(self, table: str, of: Sequence[Range], attempt: int = 0) -> None:
        sql, bound = statement(table, of)
        options = insert_options(token(table, self._topic, of, attempt))
        await self._store.execute(sql, bound, options)
        failpoints.reach(f"writer.rollup_after_{table.removeprefix(schema.DATABASE + '.')}")

    async def _ends(self, table: str) -> dict[int, int]:
        answer = await self._store.query(f"SELECT _p, max(w) FROM {table} WHERE tenant = 0 AND kind = '' GROUP BY _p")
        return {int(partition): int(end) for partition, end in answer.rows}

    async def totals(self, of: Sequence[Range]) -> list[Total]:
        """The totals, over all partitions, of every item that has events in these ranges."""
        chosen, bound = _chosen(of)
        touched = f"SELECT tenant, kind, item FROM {schema.EV} AS raw WHERE {chosen}"
        answer = await self._store.query(
            f"SELECT tenant, kind, item, sum(events), sum(nonbots) FROM {schema.ITEM_TOTALS} "
            f"WHERE tenant != 0 AND (tenant, kind, item) IN ({touched}) GROUP BY tenant, kind, item",
            bound,
        )
        return [Total(*row) for row in answer.rows]
