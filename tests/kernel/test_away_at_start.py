"""A broker that goes away between a process's first word with it and the next: the process waits, since it has more to do than this."""

import asyncio
import threading
from pathlib import Path
from types import ModuleType

import pytest
from aiokafka import AIOKafkaConsumer
from mode.threads import WorkerThread

from groundswell.kernel import streams
from groundswell.kernel.bus import consumer, intents
from groundswell.kernel.bus.intents import Membership
from tests.broker import Broker, fresh_topic
from tests.kernel.streaming import quiet, running, until

AWAY_S = 1.5


def leaves_after_the_first_word(monkeypatch: pytest.MonkeyPatch, module: ModuleType, broker: Broker) -> asyncio.Event:
    """The broker is stopped when the module's first consumer has reached it; the event tells."""
    gone, real = asyncio.Event(), consumer.started

    async def started(reader: AIOKafkaConsumer) -> None:
        await real(reader)
        if not gone.is_set():
            await broker.stop()
            gone.set()

    monkeypatch.setattr(module, "started", started)
    return gone


@pytest.mark.promise("LINKS-4")
async def test_a_stream_waits_for_a_broker_that_goes_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        stream = quiet(tmp_path, bootstrap=broker.address, topic=await fresh_topic(broker.address, "frames"))
        gone = leaves_after_the_first_word(monkeypatch, streams, broker)
        async with running(stream) as task:
            await comes_back(broker, gone, task)
            await asyncio.wait_for(stream.ready.wait(), 60)
    finally:
        await broker.stop()


async def test_a_stream_that_waits_for_a_broker_at_its_start_ends_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    stream = quiet(tmp_path, bootstrap=broker.address, topic=await fresh_topic(broker.address, "frames"))
    gone = leaves_after_the_first_word(monkeypatch, streams, broker)
    async with running(stream) as task:
        await gone.wait()
        await until(lambda: any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.done()
    await until(lambda: not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))


@pytest.mark.promise("LINKS-4")
async def test_a_member_waits_for_a_broker_that_goes_while_it_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        member = Membership(broker.address, "g", await fresh_topic(broker.address, "frames"), instance="one")
        gone = leaves_after_the_first_word(monkeypatch, intents, broker)

        async def joins() -> None:
            async with member.joined():
                while not member.given:
                    await member.records(0.1)

        task = asyncio.create_task(joins())
        await comes_back(broker, gone, task)
        await asyncio.wait_for(task, 60)
    finally:
        await broker.stop()


async def comes_back(broker: Broker, gone: asyncio.Event, task: "asyncio.Task[None]") -> None:
    """Starts the broker again after a while in which the task must not end."""
    await gone.wait()
    await asyncio.sleep(AWAY_S)
    assert not task.done(), task
    await broker.start()
