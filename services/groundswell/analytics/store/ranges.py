"""Ranges of the log on their way into the store, and what the store says about how far it is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from groundswell.analytics.store import schema
from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, StoreUnavailable

ATTEMPTS_MAX = 8
"""Names under which a range is tried: each crash between a token and its rows uses one up."""

MARKS = f"""
SELECT producer, max(number) AS newest FROM (
    SELECT producer, max(seq) AS number FROM {schema.FRAMES} WHERE _p = {{p:UInt8}} AND {schema.STRETCH} < {{s:UInt64}} GROUP BY producer
    UNION ALL
    SELECT producer, seq FROM {schema.FRAMES} WHERE _p = {{p:UInt8}} AND _o >= {{a:UInt64}} AND _o < {{o:UInt64}}
) GROUP BY producer HAVING newest > 0"""
"""The newest frame of each producer: of whole stretches of offsets from what is kept beside the rows, of the begun one from the rows."""

NAMED = f"""
SELECT _o, producer, seq FROM {schema.FRAMES} WHERE _p = {{p:UInt8}} AND seq != 0
    AND _o >= {{s:UInt64}} * {schema.STRETCH_OFFSETS} AND _o <= {{o:UInt64}} ORDER BY _o DESC LIMIT 1 WITH TIES"""
NAMED_BEFORE = f"""
SELECT s FROM (SELECT {schema.STRETCH} AS s, producer, max(seq) AS newest FROM {schema.FRAMES} WHERE _p = {{p:UInt8}} GROUP BY s, producer)
    WHERE newest > 0 AND s < {{s:UInt64}} ORDER BY s DESC LIMIT 1"""
"""The newest named frames of one stretch of offsets; and the newest stretch before it that has some, from what is kept beside the rows."""


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets `first` to `last` of one partition of the log, both included."""

    partition: int
    first: int
    last: int


def token(table: str, topic: str, of: Sequence[Range], attempt: int = 0) -> str:
    """What an insert of these ranges into `table` is known by; a further attempt is known by another name."""
    again = f":{attempt}" if attempt else ""
    return f"{table}:{topic}:" + ",".join(f"{each.partition}:{each.first}-{each.last}" for each in of) + again


@dataclass(frozen=True, slots=True)
class Content:
    """What a range puts into the tables; a table without rows is not written."""

    rows: pa.Table
    batches: pa.Table
    parked: pa.Table
    frames: pa.Table


class RangeStore:
    """Writes ranges, each table under the range's token.

    A token keeps an insert from counting twice, but is no proof that it was done: the store notes the token before the rows are in
    place, and a process that dies in between leaves a token without its rows. So who repeats a range counts first.

    What is read here is for the writer alone, so no limit of a caller's question holds for it.
    """

    def __init__(self, store: ClickHouse, topic: str) -> None:
        self._store, self._topic = store, topic

    async def write(self, of: Range, content: Content) -> None:
        """Stores a range; doing so again changes nothing. `frames` comes last: it says that the range is stored."""
        await self._insert(schema.BATCHES, of, content.batches)
        failpoints.reach("writer.after_batches")
        await self._insert(schema.PARKED, of, content.parked)
        await self._insert(schema.EV, of, content.rows)
        failpoints.reach("writer.after_rows")
        await self._insert(schema.FRAMES, of, content.frames)
        failpoints.reach("writer.after_frames")

    async def write_again(self, of: Range, content: Content) -> None:
        """Stores what is missing of a range that somebody may have begun.

        Raises `StoreUnavailable` when the store takes nothing.
        """
        tables = {
            schema.BATCHES: content.batches,
            schema.PARKED: content.parked,
            schema.EV: content.rows,
            schema.FRAMES: content.frames,
        }
        for table, columns in tables.items():
            for attempt in range(ATTEMPTS_MAX):
                missing = await self._missing(table, of, columns)
                if not missing.num_rows:
                    break
                await self._insert(table, of, missing, attempt)
            else:
                raise StoreUnavailable(f"{table} does not take the offsets {of.first} to {of.last} of {of.partition}.")

    async def newest(self, since: Mapping[int, int]) -> dict[int, int]:
        """The last offset of each partition that is stored at or above the one given for it; none for one without any."""
        if not since:
            return {}
        beyond = " OR ".join(f"(_p = {{p{n}:UInt8}} AND _o >= {{o{n}:UInt64}})" for n in range(len(since)))
        bound = {f"p{n}": p for n, p in enumerate(since)} | {f"o{n}": o for n, o in enumerate(since.values())}
        answer = await self._store.query(
            f"SELECT _p, max(_o) FROM {schema.FRAMES} WHERE tenant = 0 AND ({beyond}) GROUP BY _p", bound, own=True
        )
        return {int(partition): int(newest) for partition, newest in answer.rows}

    async def oldest(self) -> dict[int, int]:
        """The oldest offset of each partition that something is stored from."""
        answer = await self._store.query(f"SELECT _p, min(_o) FROM {schema.FRAMES} GROUP BY _p", own=True)
        return {int(partition): int(oldest) for partition, oldest in answer.rows}

    async def named(self, partition: int, at_most: int) -> tuple[int, set[tuple[int, int]]] | None:
        """The newest offset up to `at_most` that a frame is stored from, and the (producer, number) of what is; None when there is none."""
        begun = at_most // schema.STRETCH_OFFSETS
        answer = await self._store.query(NAMED, {"p": partition, "s": begun, "o": at_most}, own=True)
        if (
            not answer.rows
            and (older := await self._store.query(NAMED_BEFORE, {"p": partition, "s": begun}, own=True)).rows
        ):
            stretch = int(older.rows[0][0])
            last = (stretch + 1) * schema.STRETCH_OFFSETS - 1
            answer = await self._store.query(NAMED, {"p": partition, "s": stretch, "o": last}, own=True)
        names = {(int(producer), int(seq)) for _, producer, seq in answer.rows}
        return (int(answer.rows[0][0]), names) if names else None

    async def marks(self, partition: int, before: int) -> dict[int, int]:
        """The newest frame of each producer below the offset `before`."""
        whole = before // schema.STRETCH_OFFSETS
        bound = {"p": partition, "s": whole, "a": whole * schema.STRETCH_OFFSETS, "o": before}
        answer = await self._store.query(MARKS, bound, own=True)
        return {int(producer): int(seq) for producer, seq in answer.rows}

    async def known_digests(self, partition: int, before: int, digests: Collection[bytes]) -> set[bytes]:
        """Which of these batches were stored from below the offset `before`."""
        answer = await self._store.query(
            f"SELECT hex(digest) FROM {schema.BATCHES} WHERE _p = {{p:UInt8}} AND _o < {{o:UInt64}} "
            "AND digest IN (SELECT toFixedString(unhex(arrayJoin({d:Array(String)})), 16))",
            {"p": partition, "o": before, "d": [digest.hex().upper() for digest in digests]},
            own=True,
        )
        return {bytes.fromhex(digest) for (digest,) in answer.rows}

    async def _missing(self, table: str, of: Range, columns: pa.Table) -> pa.Table:
        """The rows that the table lacks. Rows of one part are there together or not at all; only raw rows have several parts."""
        if not columns.num_rows:
            return columns
        raw = table == schema.EV
        answer = await self._store.query(
            f"SELECT {schema.RAW_PART if raw else '0'} AS part, count() FROM {table} "
            "WHERE _p = {p:UInt8} AND _o BETWEEN {a:UInt64} AND {b:UInt64} GROUP BY part",
            {"p": of.partition, "a": of.first, "b": of.last},
            own=True,
        )
        stored = {int(part): int(count) for part, count in answer.rows}
        if not raw:
            return columns.slice(0, 0) if stored.get(0, 0) >= columns.num_rows else columns
        part = schema.raw_parts(columns)
        parts, counts = np.unique(part, return_counts=True)
        lacking = [each for each, count in zip(parts, counts, strict=True) if stored.get(int(each), 0) < count]
        return columns.filter(pa.array(np.isin(part, lacking)))

    async def _insert(self, table: str, of: Range, columns: pa.Table, attempt: int = 0) -> None:
        if columns.num_rows:
            await self._store.insert(table, columns, token(table, self._topic, [of], attempt))
