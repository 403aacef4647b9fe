"""The analytics modules beside engines that come later than they do, as when a cluster starts everything at once."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from groundswell.analytics.consumers import writer as writing
from groundswell.analytics.module.writer import writer
from groundswell.kernel.bus import frames
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources
from tests.analytics.conftest import Server, acknowledged
from tests.analytics.test_writer_crash import rows

ROWS = 200
NOTICED_S_MAX = 30.0


@pytest.mark.parametrize("late", ["store", "topic"])
async def test_a_writer_that_starts_before_its_store_or_its_topic_works_once_it_is_there(
    late: str, kafka_address: str, clickhouse_server: Server, tmp_path: Path
) -> None:
    """Goal: nothing has to be there for a start, and what comes is noticed in seconds rather than in Kafka's five minutes."""
    topic = f"late-{secrets.token_hex(4)}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "CLICKHOUSE_DSN": clickhouse_server.dsn,
        "FRAMES_TOPIC": topic,
        "FRAMES_PARTITIONS": "1",
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "GROUNDSWELL_INSTANCE": topic,
    }
    if late == "store":
        clickhouse_server.stop()
        await made(kafka_address, topic)
    async with Resources.open(environment) as resources, writer(resources) as module, running(module):
        ready = [*module.ready.values(), *resources.ready().values()]
        if late == "store":
            assert not all(check() for check in ready)
            await clickhouse_server.start()
        else:
            await known(kafka_address, writing.GROUP)
            await made(kafka_address, topic)
        async with asyncio.timeout(NOTICED_S_MAX):
            while not all(check() for check in ready):
                await asyncio.sleep(0.05)
        producer = await resources.frames()
        assert isinstance(producer, frames.FrameProducer)
        await acknowledged(producer, rows(ROWS))


@asynccontextmanager
async def running(module: Module) -> AsyncIterator[None]:
    """The module's tasks while the block runs; one that ended fails the test."""
    tasks = [asyncio.ensure_future(task()) for task in module.tasks.values()]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def made(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def known(kafka: str, group: str) -> None:
    """Waits until the group has a member."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    async with asyncio.timeout(30):
        while group not in {name for name, *_ in await admin.list_consumer_groups()}:
            await asyncio.sleep(0.1)
    await admin.close()
