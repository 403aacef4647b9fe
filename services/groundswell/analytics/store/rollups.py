"""Rollups: what is stored, grouped, read back from the raw rows of a range of each partition; and the totals that come of them.

The ranges of all partitions share a statement, since a statement costs more than the rows of a second, and so do the rollups of one
kind: what is grouped by second is grouped further by minute and hour. Each partition's groups become a part of their own in each table,
with a marker in it, so that a crash leaves each partition's range in a table whole or not at all; but it may leave it in some tables only.

A statement for several tables adds nothing once any of them holds something of its ranges. A statement for one table, which adds what
the others have left out, takes of each range only what lies beyond the table's own marker. So neither adds anything when it is repeated,
nor when a writer wakes up after a successor did its work. A token alone does not make an INSERT … SELECT repeatable: what the store
remembers is derived from the token and from the blocks that the SELECT gives, and a GROUP BY gives one block or hundreds, as the memory
of the moment decides.

What neither sees is what a statement is about to add that the store is still working at, as one whose process was killed. So each
says of which partitions it is, and whoever adds what others may have begun waits until the store is done with theirs.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import ATTEMPTS_MAX, Range, token
from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, StoreUnavailable, insert_options

log = logging.getLogger(__name__)

ONE_THREAD = {"max_threads": 1}
"""Groups that two threads make each hold the sketches of their users, which are then merged: more work, and nobody waits for it."""

_SUMS = "count() AS events, sum(value) AS value, uniqCombined64State(14)(user) AS users"
_NO_SUMS = "toUInt64(0), toFloat64(0), uniqCombined64State(14)(toUInt64(0))"
_FAR = "toDateTime('2100-01-01 00:00:00', 'UTC')"
_MARKS = "(SELECT arrayJoin(arrayZip({p:Array(UInt8)}, {w:Array(UInt64)})) AS mark) WHERE {untouched}"
"""The partitions of the ranges, each with the first offset beyond its range."""


class Total(NamedTuple):
    """All events of one item since the beginning."""

    tenant: int
    kind: str
    item: int
    events: int
    nonbots: int


def _by_time(table: str, start: str, places: str = "country, device") -> str:
    nowhere = ", ".join(_NOWHERE[name] for name in places.split(", "))
    return f"""
INSERT INTO {table} (_p, tenant, kind, at, {places}, bot, events, value, users, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, toDateTime({start}(ts), 'UTC') AS at, {places}, bitAnd(flags, 1) AS bot,
        {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, at, {places}, bot
    UNION ALL
    SELECT mark.1, toUInt64(0), '', {_FAR}, {nowhere}, toUInt8(0), {_NO_SUMS}, mark.2 FROM {_MARKS} GROUP BY mark)"""


_NOWHERE = {"country": "toUInt16(0)", "device": "toUInt8(0)"}


def _by_item(table: str) -> str:
    return f"""
INSERT INTO {table} (_p, tenant, kind, hour, item, at, bot, name, events, value, users, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, toStartOfHour(at) AS hour, item, toDateTime(toStartOfMinute(ts), 'UTC') AS at,
        bitAnd(flags, 1) AS bot, max(name) AS name, {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, item, at, bot
    UNION ALL
    SELECT mark.1, toUInt64(0), '', {_FAR}, toUInt64(0), {_FAR}, toUInt8(0), '', {_NO_SUMS}, mark.2 FROM {_MARKS} GROUP BY mark)"""


_ITEM_1H = f"""
INSERT INTO {schema.ITEM_1H} (_p, tenant, kind, at, item, bot, name, events, value, users, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, toDateTime(toStartOfHour(ts), 'UTC') AS at, item, bitAnd(flags, 1) AS bot,
        max(raw.name) AS name, {_SUMS}, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, at, item, bot
    UNION ALL
    SELECT mark.1, toUInt64(0), '', {_FAR}, toUInt64(0), toUInt8(0), '', {_NO_SUMS}, mark.2 FROM {_MARKS} GROUP BY mark)"""

_ITEM_TOTALS = f"""
INSERT INTO {schema.ITEM_TOTALS} (_p, tenant, kind, item, events, nonbots, w) SELECT * FROM (
    SELECT raw._p AS _p, tenant, kind, item, count() AS events, countIf(bitAnd(flags, 1) = 0) AS nonbots, toUInt64(0) AS w
    FROM {schema.EV} AS raw WHERE {{ranges}} GROUP BY _p, tenant, kind, item
    UNION ALL
    SELECT mark.1, toUInt64(0), '', toUInt64(0), toUInt64(0), toUInt64(0), mark.2 FROM {_MARKS} GROUP BY mark)"""

_INSERTS = {
    schema.BY_TIME: _by_time(schema.BY_TIME, "toStartOfSecond"),
    schema.EV_1S: _by_time(schema.EV_1S, "toStartOfSecond"),
    schema.EV_1M: _by_time(schema.EV_1M, "toStartOfMinute"),
    schema.EV_1H: _by_time(schema.EV_1H, "toStartOfHour"),
    schema.EV_1H_DEVICES: _by_time(schema.EV_1H_DEVICES, "toStartOfHour", "device"),
    schema.BY_ITEM: _by_item(schema.BY_ITEM),
    schema.ITEM_1M: _by_item(schema.ITEM_1M),
    schema.ITEM_1H: _ITEM_1H,
    schema.ITEM_TOTALS: _ITEM_TOTALS,
}

_MARKED = "tenant = 0 AND kind = ''"
_MARKERS = f"SELECT _p, w FROM {{table}} WHERE {_MARKED}"
BEYOND = "(_p = {{p{n}:UInt8}} AND w > {{a{n}:UInt64}})"
"""A marker that says of a range that some of it is there."""

_COMMENT = "groundswell rolls up "
_UNDER_WAY = """
SELECT Settings['log_comment'] AS comment FROM system.processes WHERE startsWith(comment, {begin:String})"""
"""The comments of statements that the store works at. A server's processes are its own: of several servers this asks one."""

_YOUNG = f"now() - INTERVAL {schema.RAW_DAYS} DAY + INTERVAL 1 HOUR"
_FORGOTTEN = f"""
SELECT (SELECT count() = 0 FROM {schema.FRAMES} WHERE tenant = 0 AND _p = {{p:UInt8}} AND _o < {{o:UInt64}} AND _t > {_YOUNG})
    AND (SELECT count() > 0 FROM {schema.EV_1H} WHERE _p = {{p:UInt8}} AND tenant != 0 AND at < {_YOUNG})"""


def statement(table: str, of: Sequence[Range]) -> tuple[str, dict[str, object]]:
    """The insert that adds these ranges, of different partitions, to the rollup `table`, or to all that `table` passes groups on to;
    and its parameters."""
    raw, bound = chosen(of, "" if table in schema.PASSED_ON else table)
    untouched = _untouched(of, schema.PASSED_ON[table]) if table in schema.PASSED_ON else "1"
    marks = {"p": [each.partition for each in of], "w": [each.last + 1 for each in of]}
    sql = _INSERTS[table].replace("{ranges}", f"({raw}) AND {untouched}").replace("{untouched}", untouched)
    return sql, bound | marks


def chosen(of: Sequence[Range], beyond: str = "") -> tuple[str, dict[str, object]]:
    """The condition on raw rows that these ranges make, less what the rollup `beyond` holds, and its parameters.

    The columns are named with their table: a bare `_p` could mean the column that an insert makes.
    """
    clauses: list[str] = []
    for n in range(len(of)):
        first = f"{{a{n}:UInt64}}"
        if beyond:
            first = (
                f"greatest({first}, (SELECT max(w) FROM ({_MARKERS.format(table=beyond)}) WHERE {BEYOND.format(n=n)}))"
            )
        clauses.append(f"(raw._p = {{p{n}:UInt8}} AND raw._o BETWEEN {first} AND {{b{n}:UInt64}})")
    return " OR ".join(clauses), _bound(of)


def _bound(of: Sequence[Range]) -> dict[str, object]:
    """What conditions on ranges are bound to: of each its partition, its first offset and its last."""
    return {
        f"{name}{n}": value
        for n, each in enumerate(of)
        for name, value in (("p", each.partition), ("a", each.first), ("b", each.last))
    }


def _untouched(of: Sequence[Range], tables: Sequence[str]) -> str:
    """The condition that none of the tables holds anything of these ranges; it takes the parameters of `chosen`."""
    markers = " UNION ALL ".join(_MARKERS.format(table=table) for table in tables)
    return f"(SELECT count() = 0 FROM ({markers}) WHERE {_beyond(of)})"


def _beyond(of: Sequence[Range]) -> str:
    """The condition that a marker says of one of the ranges that some of it is there."""
    return " OR ".join(BEYOND.format(n=n) for n in range(len(of)))


class RollupStore:
    """Writes rollups of ranges and reads totals."""

    def __init__(self, store: ClickHouse, topic: str) -> None:
        self._store, self._topic = store, topic
        self._quick: frozenset[str] | None = None
        """Rollups whose markers the engine has in memory."""
        self.adding = asyncio.Lock()
        """To be held while rollups are added to: a reader that takes it finds them still."""

    async def write(self, of: Sequence[Range]) -> None:
        """Adds ranges of different partitions to every rollup; doing so again changes nothing."""
        for table in schema.PASSED_ON:
            await self._add(table, of)
        await self.write_again(of)

    async def write_again(self, of: Sequence[Range]) -> None:
        """Adds ranges to each rollup that does not hold them: for ranges that somebody may have begun."""
        attempt = 0
        while lacking := await self._lacking(of):
            if attempt == ATTEMPTS_MAX:
                raise StoreUnavailable(f"The store does not take {lacking}.")
            for table, left in lacking.items():
                if not attempt:
                    await self._fill_again(table, left)
                await self._add(table, left, attempt)
            attempt += 1

    async def under_way(self, partitions: Collection[int]) -> set[int]:
        """Those of the partitions to which the store is adding ranges at this moment, whoever told it to."""
        answer = await self._store.query(_UNDER_WAY, {"begin": f"{_COMMENT}{self._topic}:"}, own=True)
        return {int(p) for (comment,) in answer.rows for p in str(comment).rpartition(":")[2].split(",")} & set(
            partitions
        )

    async def lacking_from(self) -> dict[int, int]:
        """The first offset of each partition that some rollup does not hold; none for one of which no rollup holds anything."""
        ends = await self._ends()
        partitions = set[int]().union(*ends.values())
        return {partition: min(of_table.get(partition, 0) for of_table in ends.values()) for partition in partitions}

    async def _lacking(self, of: Sequence[Range]) -> dict[str, list[Range]]:
        """Which tables lack which of the ranges, the last of its rows at least."""
        ends = await self._ends(of)
        left = {table: [each for each in of if ends[table].get(each.partition, 0) <= each.last] for table in ends}
        return {table: lacking for table, lacking in left.items() if lacking}

    async def _add(self, table: str, of: Sequence[Range], attempt: int = 0) -> None:
        sql, bound = statement(table, of)
        options = insert_options(token(table, self._topic, of, attempt)) | ONE_THREAD | self._comment(of)
        await self._store.execute(sql, bound, options)
        failpoints.reach(f"writer.rollup_after_{table.removeprefix(schema.DATABASE + '.')}")

    async def _fill_again(self, table: str, of: Sequence[Range]) -> None:
        """Fills the partitions of ranges whose raw rows are gone from the finer rollup, which is ahead."""
        for each in of:
            ends = await self._ends([each])
            beyond = max(each.first, ends[table].get(each.partition, 0))
            if not await self._is_forgotten(each.partition, beyond):
                continue
            source, _ = schema.FILLED_FROM.get(table, ("", ""))
            if source and ends[source].get(each.partition, 0) > beyond:
                log.warning("%s: partition %d is filled again from %s", table, each.partition, source)
                await schema.fill_again(self._store, table, each.partition, self._comment([each]))
            else:
                log.error(
                    "%s: raw rows of partition %d from %d on may be gone, and it lacks them",
                    table,
                    each.partition,
                    beyond,
                )

    async def _is_forgotten(self, partition: int, first: int) -> bool:
        """Whether raw rows from the offset `first` on may be gone: nothing before it is young enough, and something at all is too old."""
        answer = await self._store.query(_FORGOTTEN, {"p": partition, "o": first}, own=True)
        return bool(answer.rows[0][0])

    def _comment(self, of: Sequence[Range]) -> dict[str, str | int]:
        """Says at which partitions a statement works."""
        return {"log_comment": f"{_COMMENT}{self._topic}:{','.join(str(each.partition) for each in of)}"}

    async def _ends(self, of: Sequence[Range] = ()) -> dict[str, dict[int, int]]:
        """The first offset that each rollup does not hold, by partition; of ranges, of those at least that it holds something of."""
        if self._quick is None:
            self._quick = await schema.known(self._store, "w")
        within = f"({_beyond(of)})" if of else "1"
        asked = [
            f"SELECT '{table}' AS name, _p, max(w) AS end FROM {table} "
            f"{'' if table in self._quick else f'WHERE {_MARKED} AND {within}'} GROUP BY _p"
            for table in schema.ROLLUPS
        ]
        answer = await self._store.query(" UNION ALL ".join(asked), _bound(of), own=True)
        ends: dict[str, dict[int, int]] = {table: {} for table in schema.ROLLUPS}
        for table, partition, end in answer.rows:
            if end:
                ends[table][int(partition)] = int(end)
        return ends

    async def totals(self, of: Sequence[Range]) -> list[Total]:
        """The totals, over all partitions, of every item that has events in these ranges."""
        raw, bound = chosen(of)
        touched = f"SELECT DISTINCT tenant, kind, item FROM {schema.EV} AS raw WHERE {raw}"
        answer = await self._store.query(
            f"SELECT tenant, kind, item, sum(events), sum(nonbots) FROM {schema.ITEM_TOTALS} "
            f"WHERE tenant != 0 AND (tenant, kind, item) IN ({touched}) GROUP BY tenant, kind, item",
            bound,
            own=True,
        )
        return [Total(*row) for row in answer.rows]
