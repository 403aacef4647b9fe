"""The log loses its end, or is made anew, while the store keeps what was read from it: nothing is taken for stored that is not.

Goal: a log that is not what it was stops the partition aloud, no frame is dropped as a repeat of another one, and the way out stores what
the log has instead, each frame once. Method: a real writer in a child process, a topic that is deleted and made anew with other or fewer
frames, and marks beyond the end.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import REGISTRY

from groundswell.analytics.consumers.writer import STRANGERS_MAX
from groundswell.analytics.service.live import LiveCounters
from groundswell.kernel import streams
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames import voids
from groundswell.kernel.bus.intents import LogTooShort, Mark, Membership
from groundswell.kernel.clock import SystemClock
from tests.analytics.conftest import PARTITIONS, WriterProcess
from tests.analytics.test_dead_letters import PRODUCER, ROWS, sound
from tests.analytics.test_writer_crash import unequal
from tests.clocks import HeldClock

REFILL = {"WRITER_REFILL": "true"}


class Log:
    """A topic that may lose what it has."""

    def __init__(self, address: str, topic: str, producer: AIOKafkaProducer) -> None:
        self.address, self.topic, self._producer = address, topic, producer

    async def give(self, numbers: Iterable[int], partition: int = 0) -> None:
        """Frames of these numbers, each of one client batch."""
        for number in numbers:
            body, headers = sound(number)
            batch = frames.Header(PRODUCER, number, ROWS, 0, 0, (frames.Group(number.to_bytes(16), 0, ROWS),))
            assert batch.to_record()[: len(headers)] == headers
            await self.take(body, batch.to_record(), partition)

    async def take(self, body: bytes, headers: Sequence[tuple[str, bytes | None]], partition: int = 0) -> None:
        """One record."""
        await self._producer.send_and_wait(self.topic, body, partition=partition, headers=headers)

    async def make_anew(self) -> None:
        """All records are gone, and offsets begin at 0 again."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_topics([self.topic])
            async with asyncio.timeout(20):
                while self.topic in await admin.list_topics():
                    await asyncio.sleep(0.05)
                await self._made(admin)
        finally:
            await admin.close()
        await self._producer.stop()
        self._producer = AIOKafkaProducer(bootstrap_servers=self.address)
        await self._producer.start()

    async def close(self) -> None:
        await self._producer.stop()

    async def _made(self, admin: AIOKafkaAdminClient) -> None:
        while True:
            answer = await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])
            if not answer.topic_errors[0][1]:
                return
            await asyncio.sleep(0.05)


@pytest.fixture
async def log(kafka_address: str, frames_topic: str) -> AsyncIterator[Log]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_address)
    await producer.start()
    made = Log(kafka_address, frames_topic, producer)
    yield made
    await made.close()


async def told(process: WriterProcess, frames_stored: int, *, whole: bool) -> None:
    """Waits until the writer says that it has stored so many frames, rolled up or not, and whether its log is whole."""
    async with asyncio.timeout(120):
        while True:
            said = process.said()
            if said and said["ev"] >= frames_stored * ROWS and said["whole"] == whole:
                return
            assert process.child is not None
            assert process.child.returncode is None, "the writer has ended"
            await asyncio.sleep(0.05)


async def ended(process: WriterProcess) -> None:
    """Killed, and what it said forgotten."""
    await process.stop()
    process.status.unlink(missing_ok=True)


async def lost(log: Log, process: WriterProcess, again: Iterable[int]) -> None:
    """Six frames are stored, then the topic is made anew with the frames `again`."""
    await log.give(range(1, 7))
    await process.start()
    await told(process, 6, whole=True)
    await ended(process)
    await log.make_anew()
    await log.give(again)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(
    "again",
    [
        pytest.param([], id="empty"),
        pytest.param([1, 2, 3, 7, 8, 9, 10, 11], id="longer by now"),
    ],
)
async def test_no_frame_is_taken_for_stored_at_an_offset_that_another_had_and_a_refill_stores_each_once(
    again: list[int], log: Log, writer_process: WriterProcess
) -> None:
    """Method: the partition stands while another goes on; what comes on top of the loss waits too, until a writer may fill the log."""
    await lost(log, writer_process, again)
    await writer_process.start()
    await told(writer_process, 6, whole=False)
    newer = range(12, 18)
    await log.give(newer)
    await log.give([20], partition=1)
    await told(writer_process, 7, whole=False)
    await ended(writer_process)
    counts = await writer_process.counts()
    assert counts["ev"] == 7 * ROWS, "some of these were stored, so the others would be dropped"
    fresh = len([number for number in again if number > 6]) + len(newer)
    await writer_process.start(**REFILL)
    await told(writer_process, 7 + fresh, whole=True)
    await ended(writer_process)
    await log.give([30])
    await writer_process.start()
    await writer_process.done((8 + fresh) * ROWS)
    await told(writer_process, 8 + fresh, whole=True)
    await ended(writer_process)
    counts = await writer_process.counts()
    assert unequal(counts, (8 + fresh) * ROWS) == {}, counts
    assert counts["parked"] == 0, "a void was taken for a corrupt frame"


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(
    ("failpoint", "newest"), [("writer.after_intent", 7 + STRANGERS_MAX), ("writer.after_rows", 8)]
)
async def test_a_refill_that_is_killed_at_any_step_is_gone_on_with(
    failpoint: str, newest: int, log: Log, writer_process: WriterProcess
) -> None:
    """Method: once more strangers than an intent names. Their producer goes on, so that one that is passed over is taken for a repeat."""
    await lost(log, writer_process, [1, 2, *range(7, newest + 1)])
    await writer_process.start(GROUNDSWELL_FAILPOINTS=f"{failpoint}=kill", **REFILL)
    assert await writer_process.died() == -signal.SIGKILL
    await log.give([newest + 1])
    await writer_process.start(**REFILL)
    await writer_process.done(
        (newest + 1) * ROWS, timeout_s=180
    )  # a machine with other work needs minutes for a quarter of one
    await ended(writer_process)
    counts = await writer_process.counts()
    assert unequal(counts, (newest + 1) * ROWS) == {}, counts


@pytest.mark.promise("ANALYTICS-2")
async def test_a_log_that_is_made_anew_under_a_running_writer_is_noticed(
    log: Log, writer_process: WriterProcess
) -> None:
    await log.give(range(1, 7))
    await writer_process.start()
    await told(writer_process, 6, whole=True)
    await log.make_anew()
    await log.give([7, 8])
    await told(writer_process, 6, whole=False)
    await ended(writer_process)
    assert (await writer_process.counts())["ev"] == 6 * ROWS


@pytest.mark.promise("ANALYTICS-2")
async def test_a_begun_range_beyond_the_end_is_waited_for_and_stored_when_the_log_has_it(
    log: Log, writer_process: WriterProcess
) -> None:
    """Method: an intent of the offsets 2 to 5 in a log of three, whose other three come later, as when a new leader catches up."""
    await log.give([1, 2, 3])
    before = Membership(log.address, f"{log.topic}.writer", log.topic, instance="one")
    async with before.joined(), asyncio.timeout(30):
        while len(before.partitions) < PARTITIONS:
            await before.records(0.1)
        async with before.turn():
            await before.commit({0: Mark(2, "I:2-5")})
    await writer_process.start()
    await told(writer_process, 0, whole=False)
    await log.give([4, 5, 6])
    await told(writer_process, 4, whole=True)
    await log.give([7])
    await writer_process.done(5 * ROWS)
    await ended(writer_process)
    counts = await writer_process.counts()
    assert unequal(counts, 5 * ROWS) == {}, counts


async def test_a_stretch_beyond_the_end_of_the_log_is_told_and_not_waited_for(log: Log) -> None:
    await log.give([1, 2, 3])
    member = Membership(log.address, f"{log.topic}.reader", log.topic, instance="one")
    async with member.joined(), asyncio.timeout(30):
        while len(member.partitions) < PARTITIONS:
            await member.records(0.1)
        with pytest.raises(LogTooShort) as refused:
            await member.stretch(0, 1, 3)
        assert (refused.value.partition, refused.value.reached) == (0, 4)
        assert "ends at 3" in str(refused.value)
        assert [record.offset for record in await member.stretch(0, 1, 2)] == [1, 2], "the control"


async def test_voids_lie_together_and_the_live_counters_pass_over_them(log: Log) -> None:
    await log.give([1])
    assert [await voids.append(log.address, log.topic, 0, count) for count in (voids.TOGETHER_MAX, 3)] == [
        1,
        1 + voids.TOGETHER_MAX,
    ]
    member = Membership(log.address, f"{log.topic}.reader", log.topic, instance="one")
    async with member.joined(), asyncio.timeout(30):
        while not member.partitions:
            await member.records(0.1)
        found = await member.stretch(0, 0, 3 + voids.TOGETHER_MAX)
    assert [frames.is_void(record.headers) for record in found] == [False] + [True] * (3 + voids.TOGETHER_MAX)
    skipped = "groundswell_live_frames_skipped_total"
    before = REGISTRY.get_sample_value(skipped, {"reason": "corrupt"})
    counters = LiveCounters(SystemClock())
    counters.take([streams.Record(0, each.offset, each.value, list(each.headers)) for each in found])
    assert counters.look(7, "").window_events == ROWS
    assert REGISTRY.get_sample_value(skipped, {"reason": "corrupt"}) == before


def test_the_live_counters_count_what_a_log_that_was_made_anew_gives_at_offsets_that_they_know() -> None:
    """And a frame that comes again counts once, wherever it lies."""
    body, first = sound(1)
    _, second = sound(2)
    given = [streams.Record(0, offset, body, [*headers]) for offset, headers in ((5, first), (0, second), (9, first))]  # type: ignore[list-item]  # none of these is null
    counters = LiveCounters(HeldClock(SystemClock().now_ms()))
    for record in given:
        counters.take([record])
    assert counters.look(7, "").window_events == 2 * ROWS
