"""What the writer tells of its lag."""

import asyncio
import secrets
import time
from pathlib import Path

from prometheus_client import REGISTRY

from groundswell.analytics.module.writer import writer
from groundswell.kernel.bus import frames
from groundswell.kernel.resources import Resources
from tests.analytics.conftest import Server, acknowledged
from tests.analytics.test_late_engines import made, running

DAY_S = 86_400
LONG_S = 60.0


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_an_event_that_happened_long_ago_is_no_lag_of_the_writer(
    kafka_address: str, clickhouse_server: Server, tmp_path: Path
) -> None:
    topic = f"lag-{secrets.token_hex(4)}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "CLICKHOUSE_DSN": clickhouse_server.dsn,
        "FRAMES_TOPIC": topic,
        "FRAMES_PARTITIONS": "1",
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "GROUNDSWELL_INSTANCE": topic,
    }
    await made(kafka_address, topic)
    stored = sample("groundswell_writer_rows_total")
    async with Resources.open(environment) as resources, writer(resources) as module, running(module):
        producer = await resources.frames()
        assert isinstance(producer, frames.FrameProducer)
        await acknowledged(producer, [frames.Row(int(time.time() - DAY_S) * 1_000, "view", 7, 1, 1)])
        async with asyncio.timeout(LONG_S):
            while sample("groundswell_writer_rows_total") == stored:
                await asyncio.sleep(0.05)
        assert sample("groundswell_writer_oldest_row_seconds") < DAY_S / 2
