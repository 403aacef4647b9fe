"""Streams under a test's hand: what they were given, how far their group has committed, and their end with the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from groundswell.kernel import streams
from groundswell.kernel.bus.producer import Producer
from tests.broker import PARTITIONS


class Spy:
    """What a stream was given, in order; it takes nothing while `gate` is shut."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.handled: list[tuple[int, int]] = []
        self.assigned: list[list[streams.Assignment]] = []
        self.ages: list[float] = []

    async def handle(self, records: Sequence[streams.Record]) -> None:
        await self.gate.wait()
        self.handled.extend((record.partition, record.offset) for record in records)

    async def rebuild(self, assignments: Sequence[streams.Assignment]) -> None:
        self.assigned.append(list(assignments))


def quiet(folder: Path, handle: Any = None, rebuild: Any = None, **names: Any) -> streams.Stream:
    async def nothing(_: Sequence[object]) -> None: ...

    given = {"bootstrap": "127.0.0.1:1", "group": "g", "topic": "frames", "instance": "i"} | names
    return streams.Stream(**given, data=folder, handle=handle or nothing, rebuild=rebuild or nothing)


@asynccontextmanager
async def running(stream: streams.Stream) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(streams.run(stream))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sent(producer: Producer, topic: str, count: int) -> None:
    for n in range(count):
        await producer.send_and_wait(topic, b"%d" % n, partition=n % PARTITIONS)


async def committed(names: dict[str, str]) -> list[int | None]:
    """The group's offsets of the four partitions."""
    reader = AIOKafkaConsumer(bootstrap_servers=names["bootstrap"], group_id=names["group"], enable_auto_commit=False)
    await reader.start()
    try:
        partitions = [TopicPartition(names["topic"], partition) for partition in range(PARTITIONS)]
        reader.assign(partitions)
        return [await reader.committed(partition) for partition in partitions]
    finally:
        await reader.stop()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
