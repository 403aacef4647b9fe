"""Live counters that begin anew: what was counted is counted again from the log, once, whatever the group had committed."""

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from groundswell.analytics.model.people import Count
from groundswell.analytics.model.window import SETTLED_S
from groundswell.analytics.service.live import LiveCounters
from groundswell.analytics.streams import GROUP, live_stream
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from tests.broker import PARTITIONS, fresh_topic
from tests.clocks import HeldClock
from tests.kernel.streaming import committed, running, until

TENANT = 7
ROWS = 25


async def sent(producer: AIOKafkaProducer, topic: str, first: int, count: int, at_ms: int) -> None:
    """Frames `first` and following: `ROWS` visits each, by the same people of several countries, to another item in each frame."""
    for number in range(first, first + count):
        rows = [
            frames.Row(
                at_ms,
                ("click", "view")[row % 2],
                TENANT,
                number % 5 + 1,
                row,
                country=0x4445 + row % 3,
                device=row % 2,
            )
            for row in range(ROWS)
        ]
        header = frames.Header(99, number, ROWS, at_ms, at_ms)
        await producer.send_and_wait(
            topic, frames.encode(frames.record_batch(rows)), headers=header.to_record(), partition=number % PARTITIONS
        )


def twice(count: Count) -> Count:
    """As many events again, by the same people."""
    return Count(2 * count.events, count.users)


@pytest.mark.promise("ANALYTICS-8")
async def test_counters_that_were_restarted_show_all_that_those_before_did(tmp_path: Path, kafka_address: str) -> None:
    """Goal: no part of a look is lost or doubled. Method: what a second process shows beside what the first did, with frames in between."""
    topic = await fresh_topic(kafka_address, "frames")
    producer = AIOKafkaProducer(bootstrap_servers=kafka_address, acks="all")
    await producer.start()
    clock = HeldClock(time.time_ns() // 1_000_000)
    looks, seconds = [], []
    try:
        for life in range(2):
            counters = LiveCounters(clock)
            await sent(producer, topic, 1 + life * 40, 40, clock.at_ms - SETTLED_S * 1000)
            stream = live_stream(kafka_address, topic, "live-one", tmp_path, counters, SystemClock())
            async with running(stream):
                await until(lambda: counters.complete_ms is not None)  # noqa: B023  # awaited in its turn
                looks.append(counters.look(TENANT, ""))
                seconds.append(counters.second(TENANT, ""))
                async with asyncio.timeout(30):
                    while None in await committed({"bootstrap": kafka_address, "group": GROUP, "topic": topic}):
                        await asyncio.sleep(0.1)
    finally:
        await producer.stop()
    first, second = looks
    assert (first.window_events, second.window_events) == (40 * ROWS, 80 * ROWS)
    for name in ("countries", "devices"):
        assert getattr(second, name) == {key: 2 * count for key, count in getattr(first, name).items()}
    assert sorted(second.top_items) == sorted((kind, item, 2 * count) for kind, item, count in first.top_items)
    before, after = seconds
    assert before.total == Count(40 * ROWS, ROWS)
    assert after.total == twice(before.total)
    for name in ("kinds", "countries", "devices", "items"):
        assert getattr(after, name) == {key: twice(count) for key, count in getattr(before, name).items()}
