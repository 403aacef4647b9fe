"""Rollups: one grouped insert per table and range, read back from the raw rows; and the totals that come of them.

A token alone does not make an INSERT … SELECT repeatable: what the store remembers is derived from the token and from the number of
blocks that the SELECT gives, and a GROUP BY gives one block or hundreds, as the memory of the moment decides. Two things hold against
it: the blocks are kept from depending on anything but the rows (`_STEADY`), and whoever repeats a range first asks each table's marker,
which lies in the same part as the range's rows.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import ATTEMPTS_MAX, Range
from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, StoreUnavailable, insert_options

_SUMS = "count() AS events, sum(value) AS value, uniqCombined64State(14)(user) AS users"
_NO_SUMS = "toUInt64(0), toFloat64(0), uniqCombined64State(14)(toUInt64(0))"
_FAR = "toDateTime('2100-01-01 00:00:00', 'UTC')"
_RANGE = "raw._p = {p:UInt8} AND raw._o BETWEEN {a:UInt64} AND {b:UInt64}"
"""Named with its table: a bare `_p` would mean the column that the insert makes, which is every row's."""
_MARK = "{b:UInt64} + 1 AS w"
_STEADY = {"group_by_two_level_threshold": 0, "group_by_two_level_threshold_bytes": 0}
"""Never split the groups into buckets, which become blocks."""


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
    SELECT {{p:UInt8}} AS _p, tenant, kind, toDateTime({start}(ts), 'UTC') AS at, country, device, bitAnd(flags, 1) AS bot,
        {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {_RANGE} GROUP BY tenant, kind, at, country, device, bot
    UNION ALL
    SELECT {{p:UInt8}}, toUInt64(0), '', {_FAR}, toUInt16(0), toUInt8(0), toUInt8(0), {_NO_SUMS}, {_MARK})"""


_ITEM_1M = f"""
INSERT INTO {schema.ITEM_1M} (_p, tenant, kind, hour, item, at, bot, name, events, value, users, w) SELECT * FROM (
    SELECT {{p:UInt8}} AS _p, tenant, kind, toStartOfHour(at) AS hour, item, toDateTime(toStartOfMinute(ts), 'UTC') AS at,
        bitAnd(flags, 1) AS bot, max(name) AS name, {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {_RANGE} GROUP BY tenant, kind, item, at, bot
    UNION ALL
    SELECT {{p:UInt8}}, toUInt64(0), '', {_FAR}, toUInt64(0), {_FAR}, toUInt8(0), '', {_NO_SUMS}, {_MARK})"""

_ITEM_TOTALS = f"""
INSERT INTO {schema.ITEM_TOTALS} (_p, tenant, kind, item, events, nonbots, w) SELECT * FROM (
    SELECT {{p:UInt8}} AS _p, tenant, kind, item, count() AS events, countIf(bitAnd(flags, 1) = 0) AS nonbots, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {_RANGE} GROUP BY tenant, kind, item
    UNION ALL
    SELECT {{p:UInt8}}, toUInt64(0), '', toUInt64(0), toUInt64(0), toUInt64(0), {_MARK})"""

INSERTS = {
    schema.EV_1S: _by_time(schema.EV_1S, "toStartOfSecond"),
    schema.EV_1M: _by_time(schema.EV_1M, "toStartOfMinute"),
    schema.EV_1H: _by_time(schema.EV_1H, "toStartOfHour"),
    schema.ITEM_1M: _ITEM_1M,
    schema.ITEM_TOTALS: _ITEM_TOTALS,
}


class RollupStore:
    """Writes rollups of ranges and reads totals."""

    def __init__(self, store: ClickHouse, topic: str) -> None:
        self._store, self._topic = store, topic
        self.adding = asyncio.Lock()
        """To be held while rollups are added to: a reader that takes it finds them still."""

    async def write(self, of: Range) -> None:
        """Adds the range to every rollup."""
        for table in INSERTS:
            await self._add(table, of)

    async def write_again(self, of: Range) -> None:
        """Adds the range to every rollup that does not hold it: for a range that somebody may have begun."""
        for table in INSERTS:
            attempt = 0
            while await self._end(table, of.partition) <= of.last:
                if attempt == ATTEMPTS_MAX:
                    raise StoreUnavailable(
                        f"{table} does not take the offsets {of.first} to {of.last} of {of.partition}."
                    )
                await self._add(table, of, attempt)
                attempt += 1

    async def newest(self, partition: int) -> int:
        """The first offset that the last table of a rollup does not hold; 0 when it holds none."""
        return await self._end(schema.ITEM_TOTALS, partition)

    async def _add(self, table: str, of: Range, attempt: int = 0) -> None:
        bound = {"p": of.partition, "a": of.first, "b": of.last}
        await self._store.execute(
            INSERTS[table], bound, insert_options(of.token(table, self._topic, attempt)) | _STEADY
        )
        failpoints.reach(f"writer.rollup_after_{table.removeprefix(schema.DATABASE + '.')}")

    async def _end(self, table: str, partition: int) -> int:
        """The first offset that the table does not hold."""
        answer = await self._store.query(
            f"SELECT max(w) FROM {table} WHERE tenant = 0 AND kind = '' AND _p = {{p:UInt8}}", {"p": partition}
        )
        return int(answer.rows[0][0])

    async def totals(self, of: Sequence[Range]) -> list[Total]:
        """The totals, over all partitions, of every item that has events in these ranges."""
        clauses: list[str] = []
        bound: dict[str, int] = {}
        for n, each in enumerate(of):
            clauses.append(f"_p = {{p{n}:UInt8}} AND _o BETWEEN {{a{n}:UInt64}} AND {{b{n}:UInt64}}")
            bound |= {f"p{n}": each.partition, f"a{n}": each.first, f"b{n}": each.last}
        touched = " UNION DISTINCT ".join(
            f"SELECT tenant, kind, item FROM {schema.EV} WHERE {clause}" for clause in clauses
        )
        answer = await self._store.query(
            f"SELECT tenant, kind, item, sum(events), sum(nonbots) FROM {schema.ITEM_TOTALS} "
            f"WHERE tenant != 0 AND (tenant, kind, item) IN ({touched}) GROUP BY tenant, kind, item",
            bound,
        )
        return [Total(*row) for row in answer.rows]
