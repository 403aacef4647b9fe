"""Streams whose partitions move, whose broker goes away, or that stand still."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError
from mode.threads import WorkerThread

from groundswell.kernel import streams
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.streams.progress import Movement
from groundswell.kernel.streams.running import COMMIT_S, SESSION_S, STALL_S_MAX
from tests.broker import Broker, fresh_topic
from tests.kernel.streaming import Spy, committed, quiet, running, sent, until


async def test_a_rebuild_may_last_longer_than_the_groups_session_and_nothing_is_read_before_its_end(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    spy = Spy()

    async def slow(assignments: Sequence[streams.Assignment]) -> None:
        await spy.rebuild(assignments)
        await asyncio.sleep(SESSION_S + 3)
        assert not spy.handled

    await sent(producer, topic, 8)
    async with running(quiet(tmp_path, spy.handle, slow, **names)):
        await until(lambda: len(spy.handled) == 8, 60)
    assert len(spy.assigned) == 1


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_rebuild_that_fails_ends_the_stream(
    failure: type[BaseException], tmp_path: Path, names: dict[str, str]
) -> None:
    """A cancellation that nobody asked for, as clients raise them, as well: faust ends without a word what it comes to."""

    async def fails(_: Sequence[streams.Assignment]) -> None:
        raise failure

    with pytest.raises(streams.StreamDied):
        await asyncio.wait_for(streams.run(quiet(tmp_path, None, fails, **names)), 60)


async def test_a_stream_that_cannot_join_its_group_does_not_wait_for_ever(
    tmp_path: Path, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver says so to whoever reads next, and goes on only then; before it has partitions nobody reads."""

    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(GroupCoordinator, "_perform_assignment", fails)
    with pytest.raises(streams.StreamDied, match="cannot take part"):
        await asyncio.wait_for(streams.run(quiet(tmp_path, **names)), 60)


async def test_a_stream_that_stands_still_while_the_log_goes_on_dies_and_one_that_has_nothing_to_read_lives(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    spy, stall_s_max = Spy(), 3.0
    await sent(producer, topic, 4)
    async with running(quiet(tmp_path, spy.handle, spy.rebuild, **names, stall_s_max=stall_s_max)) as task:
        await until(lambda: len(spy.handled) == 4)
        await asyncio.sleep(stall_s_max + 3)
        assert not task.done()
        spy.gate.clear()
        await sent(producer, topic, 4)
        with pytest.raises(streams.StreamDied, match="did not move"):
            await asyncio.wait_for(task, 30)


@asynccontextmanager
async def load(producer: Producer, topic: str) -> AsyncIterator[list[int]]:
    """Four records every 20 ms while the block runs; how many is in the list."""
    count = [0]

    async def send() -> None:
        while True:
            await sent(producer, topic, 4)
            count[0] += 4
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(send())
    try:
        yield count
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("rebuild_s", [0.0, 4.0])
async def test_members_that_come_and_go_leave_nothing_unhandled_and_commit_nothing_that_is(
    rebuild_s: float, tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    """Goal: a rebalance loses nothing, also one that comes while the first is being rebuilt. Method: a second member, under load."""
    one, two = Spy(), Spy()

    async def slow(assignments: Sequence[streams.Assignment]) -> None:
        await one.rebuild(assignments)
        await asyncio.sleep(rebuild_s)

    async def no_commit_is_ahead() -> None:
        for partition, offset in enumerate(await committed(names)):
            assert set(range(offset or 0)) <= {at for p, at in (*one.handled, *two.handled) if p == partition}

    second = quiet(tmp_path / "two", two.handle, two.rebuild, **names | {"instance": "two"})
    async with running(quiet(tmp_path / "one", one.handle, slow, **names)):
        async with load(producer, topic) as count:
            await until(lambda: one.assigned if rebuild_s else one.handled)
            async with running(second):
                await until(lambda: two.handled, 60)
                await no_commit_is_ahead()
            before = len(one.handled)
            await until(lambda: len(one.assigned[-1]) == 4 and len(one.handled) > before + 40, 60)
            await no_commit_is_ahead()
        await until(lambda: len({*one.handled, *two.handled}) >= count[0], 60)
    assert {len(each) for each in one.assigned} == {2, 4}


async def test_a_rebuild_that_the_broker_left_is_made_again(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str]
) -> None:
    spy = Spy()

    async def fails_once(assignments: Sequence[streams.Assignment]) -> None:
        await spy.rebuild(assignments)
        if len(spy.assigned) == 1:
            raise KafkaConnectionError

    await sent(producer, topic, 4)
    async with running(quiet(tmp_path, spy.handle, fails_once, **names)):
        await until(lambda: len(spy.handled) == 4)
    assert len(spy.assigned) == 2


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_stream_that_is_told_to_end_does_not_wait_for_a_broker_that_is_away(tmp_path: Path, how: str) -> None:
    """Method: what is handled cannot be committed any more: one commit waits for its answer when more is handled, and it is told to end.
    faust's thread must end as well, else the process would stay."""
    turns, begun, handled, broker = asyncio.Semaphore(0), asyncio.Event(), list[streams.Record](), Broker(tmp_path)

    async def handle(records: Sequence[streams.Record]) -> None:
        begun.set()
        await turns.acquire()
        handled.extend(records)

    await broker.start()
    try:
        name = await fresh_topic(broker.address, "frames")
        stream = quiet(tmp_path, handle, bootstrap=broker.address, topic=name)
        async with running(stream) as task:
            await asyncio.wait_for(stream.ready.wait(), 30)
            producer = Producer(broker.address)
            await sent(producer, name, 1)
            await asyncio.wait_for(begun.wait(), 30)
            await sent(producer, name, 1)
            await producer.close()
            await asyncio.sleep(COMMIT_S)
            if how == "stopped":
                await broker.stop()
            else:
                broker.freeze()
            turns.release()
            await until(lambda: len(handled) == 1)
            await asyncio.sleep(1.5 * COMMIT_S)
            turns.release()
            await until(lambda: len(handled) == 2)
            task.cancel()
            await asyncio.wait([task], timeout=60)
            assert task.done()
    finally:
        broker.thaw()
        await broker.stop()
    await until(lambda: not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))


def test_one_partition_that_stands_still_is_noticed_whatever_the_others_do() -> None:
    stuck, busy, idle = (TopicPartition("frames", partition) for partition in range(3))
    movement, told = Movement(STALL_S_MAX), []
    for second in range(int(STALL_S_MAX) + 3):
        ends, reached = {stuck: 9, busy: second + 5, idle: 7}, {stuck: 3, busy: second, idle: 7}
        told.append(movement.looked(ends, reached, float(second)))
    assert told[-1] == [0]
    assert not any(told[: int(STALL_S_MAX)])
    unknown = [movement.looked({busy: 1000}, {}, 100.0 + second) for second in range(int(STALL_S_MAX) + 2)]
    assert unknown[-1] == [1], "where nothing is known of a partition, it does not move"
