"""The log beside the store: whether the log still holds what the store has of it, and what it holds instead.

A log that lost its end gives the same offsets to other frames. Below the offset that the store has reached they would be taken for
stored, and never be. But a frame has a name (producer, number), which the store keeps with its offset. So the newest frame that the store
has is looked for where the store has it from. Where something else lies there, the log is read from the last offset at which both agree,
and every sound frame whose name the store does not know is a stranger. One that is corrupt is passed over: it has no name to go by.
"""

import logging
from collections.abc import AsyncIterator

from groundswell.analytics.service.storing import LogRecord
from groundswell.analytics.store.ranges import RangeStore
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import LogLost, Membership

log = logging.getLogger(__name__)


class LogReplaced(LogLost):
    """Below `reached` lie other frames than those that were read there."""

    def __init__(self, partition: int, offset: int, reached: int) -> None:
        super().__init__(partition, reached, f"holds another frame at {offset}")


class Comparison:
    """Compares partitions of one topic with one store; reads them through `membership`, which must have been given them."""

    def __init__(self, membership: Membership, store: RangeStore) -> None:
        self._membership, self._store = membership, store

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
            for record in records:
                name = frames.name_of(record.headers)
                if name is not None and name[1] > marks.get(name[0], 0) and _sound(record):
                    marks[name[0]] = name[1]
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


def _sound(record: LogRecord) -> bool:
    try:
        frames.decode(record.value, record.headers)
    except frames.CorruptFrame as error:
        log.warning("the record %d is no sound frame, and stays out of the store: %s", record.offset, error)
        return False
    return True
