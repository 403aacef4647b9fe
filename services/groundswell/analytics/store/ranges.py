"""Ranges of the log on their way into the store, and what the store says about how far it is."""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from groundswell.analytics.store import schema
from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets `first` to `last` of one partition of the log, both included."""

    partition: int
    first: int
    last: int

    def token(self, table: str, topic: str) -> str:
        """What an insert of this range into `table` is known by."""
        return f"{table}:{topic}:{self.partition}:{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a range puts into the tables; a table without rows is not written."""

    rows: pa.Table
    batches: pa.Table
    parked: pa.Table
    frames: pa.Table


class RangeStore:
    """Writes ranges, each table under the range's token."""

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

    async def newest(self, partition: int, at_least: int) -> int:
        """The last offset that is stored, -1 when none at or above `at_least` is."""
        answer = await self._store.query(
            f"SELECT toInt64(max(_o)), count() FROM {schema.FRAMES} WHERE tenant = 0 AND _p = {{p:UInt8}} AND _o >= {{o:UInt64}}",
            {"p": partition, "o": at_least},
        )
        newest, found = answer.rows[0]
        return int(newest) if found else -1

    async def marks(self, partition: int, before: int) -> dict[int, int]:
        """The newest frame of each producer below the offset `before`."""
        answer = await self._store.query(
            f"SELECT producer, max(seq) FROM {schema.FRAMES} WHERE _p = {{p:UInt8}} AND _o < {{o:UInt64}} AND seq > 0 GROUP BY producer",
            {"p": partition, "o": before},
        )
        return {int(producer): int(seq) for producer, seq in answer.rows}

    async def known_digests(self, partition: int, before: int, digests: Collection[bytes]) -> set[bytes]:
        """Which of these batches were stored from below the offset `before`."""
        answer = await self._store.query(
            f"SELECT hex(digest) FROM {schema.BATCHES} WHERE _p = {{p:UInt8}} AND _o < {{o:UInt64}} AND hex(digest) IN {{d:Array(String)}}",
            {"p": partition, "o": before, "d": [digest.hex().upper() for digest in digests]},
        )
        return {bytes.fromhex(digest) for (digest,) in answer.rows}

    async def _insert(self, table: str, of: Range, columns: pa.Table) -> None:
        if columns.num_rows:
            await self._store.insert(table, columns, of.token(table, self._topic))
