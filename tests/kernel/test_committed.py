"""What a group has committed, while its coordinator cannot say: nobody takes that for "never"."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.errors import GroupLoadInProgressError

from groundswell.kernel.bus import dead_letters
from groundswell.kernel.bus.intents import Mark, Membership
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.errors import Unavailable
from tests.broker import PARTITIONS
from tests.kernel.loading import Loading
from tests.kernel.streaming import Spy, committed, quiet, running, sent, until


@asynccontextmanager
async def member(bootstrap: str, group: str, topic: str) -> AsyncIterator[Membership]:
    """A member that has all partitions."""
    made = Membership(bootstrap, group, topic, instance=secrets.token_hex(4))
    async with made.joined():
        async with asyncio.timeout(30):
            while len(made.partitions) < PARTITIONS:
                await made.records(0.1)
        yield made


async def test_a_mark_is_not_taken_for_one_that_was_never_made_while_the_coordinator_loads(
    kafka_address: str, topic: str
) -> None:
    loading = Loading()
    async with loading.before(kafka_address) as bootstrap, member(bootstrap, f"g-{topic}", topic) as writer:
        async with writer.turn():
            await writer.commit({0: Mark(7, "I:7-9")})
        with pytest.raises(GroupLoadInProgressError) as refused:
            await writer.mark(0)
        assert refused.value.retriable, "so that whoever asks tries again"
        loading.on = False
        assert await writer.mark(0) == Mark(7, "I:7-9")
        assert await writer.mark(1) is None, "the control: there was never one"


async def test_a_stream_does_not_begin_at_the_logs_beginning_because_the_coordinator_loads(
    tmp_path: Path, producer: Producer, topic: str, kafka_address: str, names: dict[str, str]
) -> None:
    before, after, loading = Spy(), Spy(), Loading()
    await sent(producer, topic, 8)
    async with running(quiet(tmp_path / "before", before.handle, before.rebuild, **names)):
        await until(lambda: len(before.handled) == 8)
        async with asyncio.timeout(30):
            while await committed(names) != [2] * PARTITIONS:
                await asyncio.sleep(0.1)
    await sent(producer, topic, 4)
    async with loading.before(kafka_address) as bootstrap:
        stream = quiet(tmp_path / "after", after.handle, after.rebuild, **names | {"bootstrap": bootstrap})
        async with running(stream):
            await until(lambda: loading.asked and stream.rebuilding.is_set(), 60)
            asked = loading.asked
            await until(lambda: loading.asked > asked + 2 or after.assigned, 60)
            assert not after.assigned
            loading.on = False
            await until(lambda: len(after.handled) >= 4, 60)
    assert [each.offset for each in after.assigned[0]] == [2] * PARTITIONS
    assert sorted(after.handled) == [(partition, 2) for partition in range(PARTITIONS)]


async def test_no_letter_goes_back_twice_because_the_coordinator_loads(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    loading = Loading()
    await producer.send_and_wait(f"{topic}.dlq", b"body", key=b"k")
    assert await dead_letters.redrive(kafka_address, topic) == 1
    async with loading.before(kafka_address) as bootstrap:
        with pytest.raises(Unavailable):
            await dead_letters.redrive(bootstrap, topic, coordinator_s_max=0.5)
        loading.on = False
        assert await dead_letters.redrive(bootstrap, topic) == 0
