"""A refill meets what a log does meanwhile: a begun range that ends in the lost part, another loss, another member.

Goal: each frame that the log still has is stored once, whatever the refill was begun from. Method: a writer in a child process where it is
killed; in this process, on a server, where something has to come between two of its steps.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from groundswell.analytics.consumers import writer as writing
from groundswell.analytics.consumers.comparing import Comparison
from groundswell.analytics.service.storing import LogRecord, Storing
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.kernel import clickhouse
from groundswell.kernel.bus import committed
from groundswell.kernel.bus.frames import voids
from groundswell.kernel.bus.intents import Mark, Membership
from groundswell.kernel.clock import SystemClock
from tests.analytics.conftest import PARTITIONS, Server, WriterProcess
from tests.analytics.test_dead_letters import ROWS, sound
from tests.analytics.test_log_loss import REFILL, Log, ended
from tests.analytics.test_log_loss import log as log
from tests.analytics.test_writer_crash import unequal

CLOCK = SystemClock()


async def end_of(log: Log, at_least: int) -> None:
    """Waits until partition 0 of the log ends there or later."""
    place, consumer = TopicPartition(log.topic, 0), AIOKafkaConsumer(bootstrap_servers=log.address)
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            while (await consumer.end_offsets([place]))[place] < at_least:
                await asyncio.sleep(0.05)
    finally:
        await consumer.stop()


async def marked(log: Log, mark: Mark) -> None:
    """Partition 0 has this mark, as the writer's group left it."""
    before = member(log, "one")
    async with before.joined(), asyncio.timeout(30):
        while len(before.partitions) < PARTITIONS:
            await before.records(0.1)
        async with before.turn():
            await before.commit({0: mark})


def member(log: Log, instance: str) -> Membership:
    return Membership(log.address, f"{log.topic}.writer", log.topic, instance=instance)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(
    ("failpoint", "left", "stored", "booked"),
    [
        pytest.param("writer.after_batches", 4, 5, 5, id="before its rows were stored"),
        pytest.param("writer.after_rows", 4, 7, 5, id="after its rows were stored"),
        pytest.param("writer.after_rows", 0, 7, 1, id="nothing is left of it"),
    ],
)
async def test_what_the_log_still_has_of_a_begun_range_is_stored_once(
    failpoint: str, left: int, stored: int, booked: int, log: Log, writer_process: WriterProcess
) -> None:
    """Goal: neither twice, as a stranger besides, nor never, since the store knows its client batches. Rows that had reached the store
    before the log lost their frames stay. Method: of a begun range of six frames the log comes back with some, one comes later."""
    await log.give(range(1, 7))
    await writer_process.start(GROUNDSWELL_FAILPOINTS=f"{failpoint}=kill")
    assert await writer_process.died(60) == -signal.SIGKILL
    place = TopicPartition(log.topic, 0)
    async with committed.connected(log.address) as client:
        found = (await committed.committed(client, f"{log.topic}.writer", [place]))[place]
    assert found is not None
    assert (found.offset, found.metadata) == (0, "I:0-5")
    await log.make_anew()
    await log.give(range(1, left + 1))
    await marked(log, Mark(0, "I:0-5"))
    await writer_process.start(**REFILL)
    await end_of(log, 6)
    await log.give([7])
    await writer_process.done(stored * ROWS)
    await ended(writer_process)
    counts = await writer_process.counts()
    assert unequal(counts | {"accepted": stored * ROWS}, stored * ROWS) == {}, counts
    assert counts["accepted"] == booked * ROWS, "the books hold what the log has"


@dataclass
class Here:
    """What a writer in this process works with."""

    log: Log
    store: clickhouse.ClickHouse
    ranges: RangeStore

    async def frames(self) -> int:
        """How many are stored."""
        return int((await self.store.query(f"SELECT count() FROM {schema.EV}")).rows[0][0]) // ROWS

    @asynccontextmanager
    async def writer(
        self, membership: Membership, append: Callable[[int, int], Awaitable[int]] | None = None
    ) -> AsyncIterator[None]:
        """Stores, and refills, while the block runs; fails when it ends by itself."""

        async def set_aside(_: LogRecord, reason: Exception) -> None:
            raise AssertionError(reason)

        append = append or self.append
        writer = writing.Writer(membership, self.ranges, CLOCK, WriterSettings(refill=True), set_aside, append)
        running = asyncio.create_task(writer.run())
        try:
            yield
            assert not running.done(), running.exception()
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def append(self, partition: int, count: int) -> int:
        return await voids.append(self.log.address, self.log.topic, partition, count)

    async def stored(self, count: int) -> None:
        """Waits for so many frames."""
        async with asyncio.timeout(90):
            while await self.frames() < count:
                await asyncio.sleep(0.1)


@pytest.fixture
async def here(log: Log, clickhouse_server: Server) -> AsyncIterator[Here]:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, WriterSettings().deduplication_window)
        yield Here(log, store, RangeStore(store, log.topic))


@pytest.mark.promise("ANALYTICS-2")
async def test_a_log_that_is_made_anew_while_it_is_filled_ends_no_writer(here: Here) -> None:
    """Method: voids are appended, and then the log has less than what was looked for in it."""
    log, anew = here.log, [False]

    async def append(partition: int, count: int) -> int:
        first = await here.append(partition, count)
        if not anew[0]:
            anew[0] = True
            await log.make_anew()
            await log.give([7, 8, 9])
        return first

    await log.give(range(1, 7))
    async with here.writer(member(log, "one")):
        await here.stored(6)
    await log.make_anew()
    await log.give(range(7, 15))
    async with here.writer(member(log, "one"), append):
        await here.stored(9)
        await log.give([20])
        await here.stored(10)
    assert (anew[0], await here.frames()) == (True, 10)


class Slept(Membership):
    """A member that sleeps when it has heard where the log of partition 0 ends; `meanwhile` is what others do."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def end(self, partition: int) -> int:
        found = await super().end(partition)
        if partition == 0 and (meanwhile := self.meanwhile):
            self.meanwhile = None
            await meanwhile()
        return found


@pytest.mark.promise("ANALYTICS-2")
async def test_who_comes_late_to_a_refill_does_not_undo_what_another_member_has_begun(here: Here) -> None:
    """Method: a range of an empty log was begun. While the member sleeps that is to give it up, another one does so, fills the log, begins
    the next range and stores its rows. One frame more comes, which makes it a longer range where its intent is forgotten."""
    log, other = here.log, member(here.log, "two")
    await marked(log, Mark(0, "I:0-5"))

    async def meanwhile() -> None:
        assert await here.append(0, 6) == 0
        await log.give([1, 2])
        await committed_by(other, Mark(6, "I:6-7"))
        storing, of = Storing(here.ranges, CLOCK, 0), Range(0, 6, 7)
        await storing.begin(6)
        content, _ = await storing.decide(of, await records(log, of))
        await here.ranges.write(of, replace(content, frames=content.frames.slice(0, 0)))
        await log.give([3])

    late = Slept(log.address, f"{log.topic}.writer", log.topic, instance="one")
    late.meanwhile = meanwhile
    async with other.joined(), asyncio.timeout(120):
        while not other.partitions:
            await other.records(0.1)
        async with here.writer(late):
            await here.stored(3)
            while late.fresh or await late.mark(0) != Mark(9):
                await asyncio.sleep(0.1)
            assert 0 in late.partitions
    assert late.meanwhile is None
    assert await here.frames() == 3


async def committed_by(member: Membership, mark: Mark) -> None:
    """The group has this mark of partition 0 from a member that may no longer have it: the coordinator sees to the generation alone, the
    driver sees to more."""
    place, consumer = TopicPartition(member._topic, 0), member._consumer
    offsets = {place: OffsetAndMetadata(mark.offset, mark.note)}
    await consumer._coordinator.commit_offsets(consumer._subscription.subscription.assignment, offsets)


async def records(log: Log, of: Range) -> list[ConsumerRecord]:
    """What the log has at these offsets."""
    place, consumer = TopicPartition(log.topic, of.partition), AIOKafkaConsumer(bootstrap_servers=log.address)
    await consumer.start()
    try:
        consumer.assign([place])
        consumer.seek(place, of.first)
        return [await consumer.getone() for _ in range(of.first, of.last + 1)]
    finally:
        await consumer.stop()


async def test_a_corrupt_stranger_is_passed_over_and_told_of_once(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    """Method: of three frames the store has the first."""
    _, headers = sound(2)
    await here.log.give([1])
    await here.log.take(b"not arrow", headers)
    await here.log.give([3])
    storing, of = Storing(here.ranges, CLOCK, 0), Range(0, 0, 0)
    content, _ = await storing.decide(of, await records(here.log, of))
    await here.ranges.write(of, content)
    reader = member(here.log, "one")
    async with reader.joined(), asyncio.timeout(60):
        while len(reader.partitions) < PARTITIONS:
            await reader.records(0.1)
        comparison = Comparison(reader, here.ranges)
        for _ in range(2):
            assert [each.offset async for each in comparison.strangers(0, 3)] == [2]
    assert len([each for each in caplog.messages if "is no sound frame" in each]) == 1
