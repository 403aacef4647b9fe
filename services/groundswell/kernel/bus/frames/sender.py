"""How frames reach the log: one connection of their own, so that no other traffic of the process stands before them."""

from typing import Protocol

from aiokafka.errors import UnknownTopicOrPartitionError

from groundswell.kernel.bus.producer import Headers, Producer


class Sender(Protocol):
    """Whatever carries a frame to the log."""

    async def send(self, partition: int, value: bytes, headers: Headers) -> None:
        """Returns when the log has the frame; raises `KafkaError` when that is not known."""
        ...


class KafkaSender:
    """Sends over a connection of its own."""

    def __init__(self, bootstrap: str, topic: str, acks: str = "all") -> None:
        self._topic = topic
        # Not idempotent on purpose: one frame in flight per partition keeps the order, and readers drop what came twice.
        self._producer = Producer(
            bootstrap,
            acks="all" if acks == "all" else int(acks),
            max_request_size=1 << 20,
            max_batch_size=1 << 20,
            metadata_max_age_ms=30_000,
        )

    async def send(self, partition: int, value: bytes, headers: Headers) -> None:
        try:
            await self._producer.send_and_wait(self._topic, value, partition=partition, headers=headers)
        except AssertionError as error:  # what aiokafka raises; the topic may get the partition yet
            raise UnknownTopicOrPartitionError(f"{self._topic} has no partition {partition}") from error

    async def close(self) -> None:
        await self._producer.close()
