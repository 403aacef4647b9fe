"""A broker of a test's own, which it may stop, and fresh topics on any."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from groundswell.engines import ports, running
from groundswell.engines.children import Child
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka

PARTITIONS = 4


class Broker:
    """One broker, stopped and started again at the same address with what it had."""

    def __init__(self, folder: Path) -> None:
        self._engine = Kafka(Folders.under(folder, "kafka"), *ports.draw(2))
        self.address = self._engine.address
        self._child: Child | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._engine.prepare, print)
        self._child = await running.start(self._engine)

    async def stop(self) -> None:
        assert self._child is not None
        await self._child.stop()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing; `thaw` ends that."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, sent: signal.Signals) -> None:
        assert self._child is not None
        if self._child.exit_code is None:
            os.kill(self._child.pid, sent)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Stopped for the block."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()


async def fresh_topic(address: str, name: str) -> str:
    """A topic whose name begins so and ends as no other does, and its dead letters."""
    name = f"{name}-{secrets.token_hex(4)}.v1"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1), NewTopic(f"{name}.dlq", 1, 1)])
    finally:
        await admin.close()
    return name
