"""A broker that goes away between a process's first word with it and the next, or is not itself yet: the process waits, since it has more
to do than this."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError
from mode.threads import WorkerThread

from groundswell.kernel.bus import connecting
from groundswell.kernel.bus.committed import connected
from groundswell.kernel.bus.intents import Membership
from groundswell.kernel.bus.producer import Producer
from tests.broker import Broker, fresh_topic
from tests.kernel.streaming import Spy, quiet, running, sent, until

AWAY_S = 1.5


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    made = Broker(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> asyncio.Event:
    """The broker is stopped when the first consumer has reached it; the event tells."""
    gone, real = asyncio.Event(), connecting.started

    async def started(make: Callable[[], AIOKafkaConsumer]) -> AIOKafkaConsumer:
        reader = await real(make)
        if not gone.is_set():
            await broker.stop()
            gone.set()
        return reader

    monkeypatch.setattr(connecting, "started", started)
    return gone


@pytest.mark.promise("LINKS-4")
async def test_a_stream_waits_for_a_broker_that_goes_while_it_starts(
    tmp_path: Path, broker: Broker, gone: asyncio.Event
) -> None:
    stream = quiet(tmp_path, bootstrap=broker.address, topic=await fresh_topic(broker.address, "frames"))
    async with running(stream) as task:
        await comes_back(broker, gone, task)
        await asyncio.wait_for(stream.ready.wait(), 60)


async def test_a_stream_that_waits_for_a_broker_at_its_start_ends_when_it_is_told_to(
    tmp_path: Path, broker: Broker, gone: asyncio.Event
) -> None:
    stream = quiet(tmp_path, bootstrap=broker.address, topic=await fresh_topic(broker.address, "frames"))
    async with running(stream) as task:
        await asyncio.wait_for(gone.wait(), 30)
        await until(lambda: any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.done()
    await until(lambda: not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))


@pytest.mark.promise("LINKS-4")
async def test_a_member_waits_for_a_broker_that_goes_while_it_joins(broker: Broker, gone: asyncio.Event) -> None:
    member = Membership(broker.address, "g", await fresh_topic(broker.address, "frames"), instance="one")

    async def joins() -> None:
        async with member.joined():
            while not member.given:
                await member.records(0.1)

    task = asyncio.create_task(joins())
    await comes_back(broker, gone, task)
    await asyncio.wait_for(task, 60)


async def comes_back(broker: Broker, gone: asyncio.Event, task: "asyncio.Task[None]") -> None:
    """Starts the broker again after a while in which the task must not end."""
    await asyncio.wait_for(gone.wait(), 30)
    await asyncio.sleep(AWAY_S)
    assert not task.done(), task
    await broker.start()


@pytest.fixture
def fenced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the next clients that ask for the cluster, in their order, are told of no broker, as by one that is fenced."""
    plan, real = list[bool](), AIOKafkaClient.bootstrap

    async def bootstrap(client: AIOKafkaClient) -> None:
        await real(client)
        if plan and plan.pop(0):
            client.cluster._brokers = {}

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    return plan


@pytest.mark.promise("LINKS-4")
async def test_a_stream_waits_for_a_broker_that_does_not_count_itself_one_yet(
    tmp_path: Path, producer: Producer, topic: str, names: dict[str, str], fenced: list[bool]
) -> None:
    spy = Spy()
    await sent(producer, topic, 4)
    fenced += [False, True, False, True, False]
    async with running(quiet(tmp_path, spy.handle, spy.rebuild, **names)):
        await until(lambda: len(spy.handled) == 4, 60)
    assert not fenced


async def test_a_member_asks_for_its_marks_and_joins_once_there_is_a_broker(
    kafka_address: str, topic: str, fenced: list[bool]
) -> None:
    member = Membership(kafka_address, f"g-{topic}", topic, instance=secrets.token_hex(4))
    fenced += [True, False] * 2
    async with asyncio.timeout(60), member.joined():
        assert await member.mark(0) is None
        while not member.given:
            await member.records(0.1)
    assert not fenced


async def test_who_does_not_wait_for_a_broker_is_told_that_there_is_none_and_reaches_it_later(
    kafka_address: str, topic: str, fenced: list[bool]
) -> None:
    sender = Producer(kafka_address)
    fenced += [True, True, False]
    try:
        with pytest.raises(NodeNotReadyError):
            async with connected(kafka_address):
                pass
        with pytest.raises(NodeNotReadyError):
            await sender.send_and_wait(topic, b"x", partition=0)
        await sender.send_and_wait(topic, b"x", partition=0)
    finally:
        await sender.close()
    assert not fenced


class Deaf:
    """A consumer that cannot start and, like aiokafka's, takes a cancellation of whoever ends it for one of its own."""

    def __init__(self) -> None:
        self._client, self._fetcher = AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), None
        self.ending = asyncio.Event()

    async def start(self) -> None:
        raise KafkaConnectionError

    async def stop(self) -> None:
        self.ending.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def test_who_is_told_to_end_while_a_failed_try_is_closed_ends() -> None:
    deaf = Deaf()
    task = asyncio.ensure_future(connecting.started(lambda: deaf))
    await asyncio.wait_for(deaf.ending.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
