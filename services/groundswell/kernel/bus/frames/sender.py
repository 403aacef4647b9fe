"""How frames reach the log: one connection of their own, so that no other traffic of the process stands before them."""

import asyncio
from typing import Protocol

import aiokafka


class Sender(Protocol):
    """Whatever carries a frame to the log."""

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Returns when the log has the frame; raises `KafkaError` when that is not known."""
        ...


class KafkaSender:
    """Sends over a connection of its own, made when first needed and made anew after it failed for good."""

    def __init__(self, bootstrap: str, topic: str, acks: str = "all") -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._acks: str | int = "all" if acks == "all" else int(acks)
        self._connecting = asyncio.Lock()
        self._producer: aiokafka.AIOKafkaProducer | None = None

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        producer = await self._connected()
        await producer.send_and_wait(self._topic, value, partition=partition, headers=headers)

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def _connected(self) -> aiokafka.AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                # Not idempotent on purpose: one frame in flight per partition keeps the order, and readers drop what
                # came twice.
                producer = aiokafka.AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks=self._acks,
                    max_request_size=1 << 20,
                    max_batch_size=1 << 20,
                    request_timeout_ms=10_000,
                    metadata_max_age_ms=30_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
