"""A connection to the broker that is made when it is first needed, so that no process waits for the broker to start.

Whoever sends repeats what failed, also when it was the connection: the outbox, the journal and the dead letters wait in their places.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaProducer

REQUEST_TIMEOUT_MS = 10_000

Headers = list[tuple[str, bytes]]


class Producer:
    """aiokafka's producer with `options`, connected by the first record; each method raises `KafkaError` while the broker is away."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self._bootstrap, self._options = bootstrap, options
        self._connecting = asyncio.Lock()
        self._connection: AIOKafkaProducer | None = None

    @classmethod
    def of_events(cls, bootstrap: str) -> "Producer":
        """What events need: idempotent, so that none is doubled or overtaken, and acknowledged by all replicas."""
        return cls(bootstrap, enable_idempotence=True, acks="all", linger_ms=2)

    async def send(self, topic: str, value: bytes | None, **record: Any) -> Awaitable[Any]:
        """Hands a record over; what it returns ends when the log has the record. `record` may hold key, partition and headers."""
        acknowledged: Awaitable[Any] = await (await self._connected()).send(topic, value, **record)
        return acknowledged

    async def send_and_wait(self, topic: str, value: bytes | None, **record: Any) -> None:
        """Returns when the log has the record; raises `KafkaError` when that is not known."""
        await (await self.send(topic, value, **record))

    async def close(self) -> None:
        """Delivers what was handed over and disconnects."""
        if self._connection is not None:
            await self._connection.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._connection is None:
                connection = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, **self._options
                )
                try:
                    await connection.start()
                except BaseException:
                    await connection.stop()
                    raise
                self._connection = connection
            return self._connection
