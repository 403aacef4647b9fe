"""The log beside the store: whether the log still holds what the store has of it, and what it holds instead.

A log that lost its end gives the same offsets to other frames. Below the offset that the store has reached they would be taken for
stored, and never be. But a frame has a name (producer, number), which the store keeps with its offset. So the newest frame that the store
has is looked for where the store has it from. Where something else lies there, the log is read from the last offset at which both agree,
and every sound frame whose name the store does not know is a stranger. One that is corrupt is passed over: it has no name to go by.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence

from groundswell.analytics.service.storing import Corrupt, LogRecord
from groundswell.analytics.store.ranges import RangeStore
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import LogLost, Membership

log = logging.getLogger(__name__)

TOLD_MAX = 1_000
"""Corrupt frames that a process tells of, each once: the same log may be looked through many times."""


class LogReplaced(LogLost):
    """Below `reached` lie other frames than those that were read there."""

    def __init__(self, partition: int, offset: int, reached: int) -> None:
        super().__init__(partition, reached, f"holds another frame at {offset}")


class Comparison:
    """Compares partitions of one topic with one store; reads them through `membership`, which must have been given them."""

    def __init__(self, membership: Membership, store: RangeStore) -> None:
        self._membership, self._store = membership, store
        self._told: set[tuple[int, int]] = set()

    async def check(self, partition: int, below: int, reached: int) -> None:
        """Raises `LogReplaced` when the log holds a stranger below the offset `below`."""
        async for record in self.strangers(partition, below):
            raise LogReplaced(partition, record.offset, reached)

    async def strangers(self, partition: int, below: int) -> AsyncIterator[LogRecord]:
        """The frames in the log below an offset that are not in the store from below it, in the log's order."""
        first = await self._agreed(partition, below)
        if first >= below:
            return
        marks = await self._store.marks(partition, below)
        async for records in self._membership.walk(partition, first, below - 1):
            strange, corrupt = await asyncio.to_thread(_strange, records, marks)
            self._tell(partition, corrupt)
            for record in strange:
                yield record

    async def _agreed(self, partition: int, below: int) -> int:
        """An offset up to which the log holds nothing that the store lacks: found by longer and longer steps back."""
        beginning, at, step = await self._membership.beginning(partition), below - 1, 1
        while at >= beginning:
            named = await self._store.named(partition, at)
            if named is None:
                return below if at == below - 1 else beginning  # a store that knows no frame says nothing of the log
            offset, names = named
            if offset < beginning:
                break
            found = await self._membership.stretch(partition, offset, offset)
            if found and frames.name_of(found[0].headers) in names:
                return offset + 1
            at, step = offset - step, step * 2
        return beginning

    def _tell(self, partition: int, corrupt: Iterable[Corrupt]) -> None:
        for record, reason in corrupt:
            if (partition, record.offset) not in self._told and len(self._told) < TOLD_MAX:
                self._told.add((partition, record.offset))
                log.warning(
                    "the record %d of partition %d is no sound frame, and stays out of the store: %s",
                    record.offset,
                    partition,
                    reason,
                )


def _strange(records: Sequence[LogRecord], marks: dict[int, int]) -> tuple[list[LogRecord], list[Corrupt]]:
    """Those of the records that are named beyond the marks, and the corrupt ones among them; moves the marks on."""
    strange: list[LogRecord] = []
    corrupt: list[Corrupt] = []
    for record in records:
        name = frames.name_of(record.headers)
        if name is None or name[1] <= marks.get(name[0], 0):
            continue
        try:
            frames.decode(record.value, record.headers)
        except frames.CorruptFrame as error:
            corrupt.append(Corrupt(record, error))
            continue
        marks[name[0]] = name[1]
        strange.append(record)
    return strange, corrupt
