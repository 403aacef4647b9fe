"""Where the log stood at a moment, for whoever has to know whether an answer holds all that had come by then."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from groundswell.kernel import errors
from groundswell.kernel.bus.connecting import ended, started_once

WAIT_S_MAX = 1.0
AWAY_S = 5.0
"""A log that did not answer is not asked again for so long: nobody waits for it at every call."""


class LogAway(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__("The log does not answer. Try again.", retry_after_s=AWAY_S)


class Positions:
    """The positions of one topic; connects to the broker when first asked. Made by `opened` only."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, wait_s_max: float) -> None:
        self._bootstrap, self._wait_s_max = bootstrap, wait_s_max
        self._partitions = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._connecting = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._away_until_s = float("-inf")

    async def offsets_at(self, moment_ms: int) -> list[int]:
        """For each partition the first offset that bears this moment or a later one, by its producer's clock, or the log's end while none
        does; raises `LogAway`."""
        if time.monotonic() < self._away_until_s:
            raise LogAway
        try:
            async with asyncio.timeout(self._wait_s_max):
                return await self._asked(moment_ms)
        except (KafkaError, TimeoutError) as error:
            self._away_until_s = time.monotonic() + AWAY_S
            raise LogAway from error

    async def close(self) -> None:
        if self._consumer is not None:
            await ended(self._consumer)

    async def _asked(self, moment_ms: int) -> list[int]:
        consumer = await self._connected()
        found = await consumer.offsets_for_times(dict.fromkeys(self._partitions, max(moment_ms, 0)))
        ends = await consumer.end_offsets(self._partitions)
        return [ends[each] if found[each] is None else found[each].offset for each in self._partitions]

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is None:
                make = partial(AIOKafkaConsumer, bootstrap_servers=self._bootstrap, enable_auto_commit=False)
                self._consumer = await started_once(make)
            return self._consumer


@asynccontextmanager
async def opened(
    bootstrap: str, topic: str, partitions: int, wait_s_max: float = WAIT_S_MAX
) -> AsyncIterator[Positions]:
    """The positions of `topic`; a question waits for the broker at most `wait_s_max`."""
    positions = Positions(bootstrap, topic, partitions, wait_s_max)
    try:
        yield positions
    finally:
        await positions.close()
