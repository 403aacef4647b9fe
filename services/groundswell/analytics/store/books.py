"""The books of a tenant: what the log gave, against what is stored.

What was accepted, set aside and stored is cut at the same offsets, those that the store itself says are complete, so that a range on its
way in is on neither side. A rollup's figure is cut nowhere: it holds what its markers and the raw rows beyond them give at the moment, and
may be ahead by a range.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from groundswell.analytics.store import schema
from groundswell.kernel.clickhouse import ClickHouse

BOOK_S = (schema.RAW_DAYS - 1) * 86_400
"""What came longer ago is left out on both sides, by one moment for both: the store forgets it bit by bit."""

_RECENT = "tenant = {tenant:UInt64} AND _t > toDateTime({since:UInt32})"


@dataclass(frozen=True, slots=True)
class Books:
    """Rows, each figure counted in a table of its own; `duplicates` are frames that came again. A rollup's figure, by its table's name,
    holds the rows that are not rolled up yet."""

    accepted: int
    stored: int
    parked: int
    duplicates: int
    rollups: Mapping[str, int]


class BookStore:
    """Reads the books."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def read(self, tenant: int, rollups: Collection[str] = schema.ROLLUPS) -> Books:
        """The tenant's books as of the newest complete ranges, with these rollups."""
        marks = await self._store.query(f"SELECT _p, max(_o) FROM {schema.FRAMES} WHERE tenant = 0 GROUP BY _p")
        ends = {int(p): int(end) for p, end in marks.rows}
        bound = {"tenant": tenant, "since": int(time.time()) - BOOK_S}
        accepted, parked, duplicates = await self._frames(ends, bound)
        stored = await self._stored(ends, bound)
        return Books(
            accepted=accepted,
            stored=stored,
            parked=parked,
            duplicates=duplicates,
            rollups=await self._rolled(tenant, rollups) if rollups else {},
        )

    async def _frames(self, ends: Mapping[int, int], bound: Mapping[str, int]) -> tuple[int, int, int]:
        complete = " OR ".join(f"(_p = {p} AND _o <= {end})" for p, end in ends.items()) or "0"
        answer = await self._store.query(
            f"SELECT sum(accepted), sum(parked), sum(duplicate) FROM {schema.FRAMES} WHERE {_RECENT} AND ({complete})",
            bound,
        )
        accepted, parked, duplicates = answer.rows[0]
        return int(accepted), int(parked), int(duplicates)

    async def _stored(self, ends: Mapping[int, int], bound: Mapping[str, int]) -> int:
        beyond = " OR ".join(f"(_p = {p} AND _o > {end})" for p, end in ends.items())
        unfinished = f"(SELECT count() FROM {schema.EV} WHERE {_RECENT} AND ({beyond}))" if beyond else "0"
        answer = await self._store.query(f"SELECT count() - {unfinished} FROM {schema.EV} WHERE {_RECENT}", bound)
        return int(answer.rows[0][0])

    async def _rolled(self, tenant: int, tables: Collection[str]) -> dict[str, int]:
        """Events in each rollup and, beyond the markers that the same scan met, in the raw rows."""
        scans = (
            f"SELECT '{table}', tenant, _p, sum(events), max(w) FROM {table} "
            "WHERE (tenant = 0 AND kind = '') OR (tenant = {tenant:UInt64} AND kind != '') GROUP BY tenant, _p"
            for table in tables
        )
        answer = await self._store.query(" UNION ALL ".join(scans), {"tenant": tenant})
        rolled = dict.fromkeys(tables, 0)
        marks: dict[str, dict[int, int]] = {table: {} for table in tables}
        for table, owner, partition, events, mark in answer.rows:
            rolled[table] += int(events) if owner else 0
            if not owner:
                marks[table][int(partition)] = int(mark)
        everywhere = set[int].intersection(*(set(each) for each in marks.values()))
        held = {p: min(each[p] for each in marks.values()) for p in everywhere}
        counts = ", ".join(f"countIf({_beyond(marks[table])})" for table in tables)
        raw = await self._store.query(
            f"SELECT {counts} FROM {schema.EV} WHERE tenant = {{tenant:UInt64}} AND {_beyond(held)}", {"tenant": tenant}
        )
        return {table: rolled[table] + int(beyond) for table, beyond in zip(tables, raw.rows[0], strict=True)}


def _beyond(marks: Mapping[int, int]) -> str:
    """The condition on raw rows that no marker covers them."""
    return " AND ".join(["1", *(f"NOT (_p = {p} AND _o < {mark})" for p, mark in marks.items())])
