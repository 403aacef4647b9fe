"""Readings whose answers wait for the log: what they say is what the log has done, also while it is away.

Method: a door whose method asks for it (`edge.telemetry.wait_for_ack`), a broker of its own that the tests stop, and a real writer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import prometheus_client
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from groundswell.analytics.store import schema
from groundswell.gateway.events import ACK_S_MAX
from groundswell.kernel.bus import frames
from tests.analytics.conftest import WriterProcess
from tests.broker import PARTITIONS, Broker, fresh_topic
from tests.gateway.door import Door, opened, pb

AT_ONCE_S_MAX = ACK_S_MAX * 0.8
UNANSWERED_S_MAX = 3.0
"""Far below the ten seconds after which the client of the log gives up a request."""
WAIT_S_MAX = 30.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that is not the session's: these tests stop it."""
    made = Broker(tmp_path_factory.mktemp("counted"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture
async def topic(broker: Broker) -> str:
    """A fresh topic of frames, and its dead letters."""
    return await fresh_topic(broker.address, "frames")


@asynccontextmanager
async def counting(folder: Path, broker: Broker, topic: str, journal_bytes: int = 1 << 20) -> AsyncIterator[Door]:
    """A door whose frames go to the broker, with a link that waits and one that does not."""
    sender = frames.KafkaSender(broker.address, topic)
    try:
        async with opened(folder, journal_bytes=journal_bytes, sender=sender) as door:
            door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
            yield door
    finally:
        await sender.close()


async def view(door: Door, **headers: str) -> tuple[str, float]:
    """What became of one reading, and how long its answer took."""
    began_s = time.monotonic()
    answer = await door.client.get("/counted/abc", headers=headers)
    assert answer.status_code == 302
    return answer.headers["groundswell-view"], time.monotonic() - began_s


async def rows_in(broker: Broker, topic: str) -> int:
    """Rows of all frames that the log has now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        rows = 0
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                rows += sum(frames.decode(record.value, record.headers).header.rows for record in records)
        return rows
    finally:
        await consumer.stop()


def told(view: str) -> float:
    """The metric of readings that ended so."""
    return prometheus_client.REGISTRY.get_sample_value("groundswell_gateway_views_total", {"view": view}) or 0.0


@pytest.mark.promise("GATEWAY-8")
async def test_an_answer_that_says_counted_left_after_the_log_had_its_row(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """GATEWAY-8. Whatever says counted is in the log at that moment; whatever says spooled has waited its time for it."""
    async with counting(tmp_path, broker, topic) as door, asyncio.timeout(WAIT_S_MAX):
        counted = 0
        while counted < 5:  # the first ones may find no connection to the log yet
            said, took_s = await view(door)
            assert said in ("counted", "spooled")
            assert said == "counted" or took_s >= ACK_S_MAX
            counted += said == "counted"
            assert await rows_in(broker, topic) >= counted


@pytest.mark.promise("GATEWAY-8")
async def test_while_the_broker_is_stopped_answers_say_spooled_after_their_wait_and_are_stored_later(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """GATEWAY-8. A quarter of a second is all that a reader waits; the total has the row when the log is back."""
    writer = WriterProcess(broker.address, topic, f"chdb://{tmp_path / 'clickhouse'}", tmp_path / "status")
    async with counting(tmp_path / "door", broker, topic) as door:
        first, _ = await view(door)
        assert first in ("counted", "spooled")
        async with broker.away():
            answers = await asyncio.gather(*(view(door) for _ in range(20)))
        assert {said for said, _ in answers} == {"spooled"}
        assert all(ACK_S_MAX <= took_s < UNANSWERED_S_MAX for _, took_s in answers), answers
        await writer.start()
        try:
            await writer.done(21)
        finally:
            await writer.stop()
    counts = await writer.counts()
    assert (counts["ev"], counts[schema.ITEM_TOTALS], counts["accepted"]) == (21, 21, 21), counts


@pytest.mark.promise("GATEWAY-8")
async def test_a_full_journal_is_told_at_once_and_shows_in_the_metric(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """GATEWAY-8. Who cannot be counted does not wait for it, and the operators see how many they are."""
    async with counting(tmp_path, broker, topic, journal_bytes=2_048) as door:
        async with broker.away():
            async with asyncio.timeout(WAIT_S_MAX):
                while "dropped" not in {said for said, _ in await asyncio.gather(*(view(door) for _ in range(20)))}:
                    pass
            before = told("dropped")
            answers = [await view(door) for _ in range(5)]
        assert {said for said, _ in answers} == {"dropped"}
        assert min(took_s for _, took_s in answers) < AT_ONCE_S_MAX
        assert told("dropped") == before + 5


@pytest.mark.promise("GATEWAY-8")
async def test_readers_who_ask_not_to_be_counted_wait_for_no_log(broker: Broker, topic: str, tmp_path: Path) -> None:
    """GATEWAY-8. DNT and Sec-GPC skip the row and with it the wait, also while the broker is stopped."""
    async with counting(tmp_path, broker, topic) as door:
        async with broker.away():
            before = told("skipped")
            answers = [await view(door, **{name: "1"}) for name in ("dnt", "sec-gpc") for _ in range(3)]
        assert {said for said, _ in answers} == {"skipped"}
        assert min(took_s for _, took_s in answers) < AT_ONCE_S_MAX
        assert told("skipped") == before + 6
        assert await rows_in(broker, topic) == 0
