"""What the bridge says of its log: while that is not there yet, while the topic is not, and where one policy takes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeStarted
from groundswell.engines import ports, running, topics
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka
from groundswell_operator import health
from groundswell_operator.applying import connecting
from groundswell_operator.bridge import consuming
from groundswell_operator.bridge.consuming import Bridge
from groundswell_operator.bridge.records import TOPIC
from groundswell_operator.bridge.sources import CALM_S, HEARD_S
from groundswell_operator.saga.sourcing import SILENT_S
from groundswell_operator.settings import Settings
from tests.cluster.bridging import committed, event, new_id, publish
from tests.operators.serving import Answer, Answering, Asked, answering
from tests.operators.test_odd_objects import SPEC, made

SAID_S_MAX = 6 * HEARD_S
TOPICS = Path(__file__).parents[2] / "protos" / "topics"


class Saying:
    """Keeps what is written, and the status of each policy; those that are `closed` refuse theirs."""

    def __init__(self, *policies: str, closed: str = "") -> None:
        self._policies = {name: made(name, spec=SPEC) for name in policies}
        self._closed = closed
        self.said: list[Asked] = []
        self.beaten_s: list[float] = []
        """When the bridge said that it looks (monotonic)."""

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "PATCH":
            self.said.append(asked)
            if asked.path.endswith("/leases/groundswell-bridge"):
                self.beaten_s.append(time.monotonic())
            name = asked.path.split("/")[-2]
            if name == self._closed:
                return 422, {"message": "denied"}
            if name in self._policies:
                self._policies[name]["status"] = asked.value["status"]
        return 200, {"items": list(self._policies.values())}

    def heartbeats(self) -> int:
        return len(self.beaten_s)

    def reasons(self, policy: str = "default") -> set[Any]:
        conditions = [each.value["status"]["conditions"] for each in self.said if f"/{policy}/status" in each.path]
        return {each["reason"] for found in conditions for each in found}


@asynccontextmanager
async def bridging(kafka: str, answer: Answering) -> AsyncIterator[asyncio.Task[None]]:
    """A bridge between a log and an API server that answers so."""
    settings = Settings.of({"GROUNDSWELL_NAMESPACE": "here", "KAFKA_BOOTSTRAP_SERVERS": kafka})
    async with answering(answer) as (_, requests):
        bridge = asyncio.create_task(Bridge(settings, requests, requests).run())
        try:
            yield bridge
        finally:
            bridge.cancel()
            with suppress(asyncio.CancelledError):
                await bridge


async def until(bridge: asyncio.Task[None], condition: Callable[[], bool]) -> None:
    """Returns once a condition is met; raises what ended the bridge, or `TimeoutError`."""
    async with asyncio.timeout(SAID_S_MAX):
        while not condition():
            assert not bridge.done(), bridge.exception()
            await asyncio.sleep(0.05)


def nowhere() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{ports.draw(1)[0]}"


async def test_a_bridge_that_starts_before_kafka_is_there_lives_on_and_says_that_it_is_away() -> None:
    """Method: nothing listens where Kafka is to be; the second report is what ends a bridge that its first one broke."""
    saying = Saying("default")
    async with bridging(nowhere(), saying.answer) as bridge:
        await until(bridge, lambda: saying.heartbeats() == 2)
    assert saying.reasons() == {"KafkaAway"}


async def test_a_bridge_that_knows_nothing_of_its_log_says_no_number_of_records() -> None:
    """Not from its first moment on: one that begins anew all the time would seem to hear."""
    settings = Settings.of({"GROUNDSWELL_NAMESPACE": "here", "KAFKA_BOOTSTRAP_SERVERS": nowhere()})
    async with answering(Saying().answer) as (_, requests):
        bridge = Bridge(settings, requests, requests)
        said, reading = bridge.figures().splitlines(), asyncio.create_task(bridge.run())
        await asyncio.sleep(0)  # what has begun ends in order
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    assert b"groundswell_bridge_lag_records NaN" in said


@pytest.mark.parametrize(("told", "code"), [(True, 0), (False, 1)])
async def test_a_bridge_whose_driver_gives_up_does_not_end_as_if_it_were_told_to(
    monkeypatch: pytest.MonkeyPatch, told: bool, code: int
) -> None:
    @asynccontextmanager
    async def nothing(*_: object) -> AsyncIterator[None]:
        yield

    async def run(_: Bridge) -> None:
        if told:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        raise asyncio.CancelledError

    monkeypatch.setattr(connecting, "session", nothing)
    monkeypatch.setattr(health, "served", nothing)
    monkeypatch.setattr(Bridge, "run", run)
    settings = Settings.of({"GROUNDSWELL_NAMESPACE": "here", "KAFKA_BOOTSTRAP_SERVERS": nowhere()})
    assert await asyncio.wait_for(consuming.run(settings), 30) == code


async def test_a_policy_that_takes_no_status_hides_the_source_from_no_other() -> None:
    saying = Saying("a", "closed", "z", closed="closed")
    async with bridging(nowhere(), saying.answer) as bridge:
        await until(bridge, lambda: saying.heartbeats() == 2 and len(saying.said) >= 2 + 3 + 1)
    assert [saying.reasons(name) for name in ("a", "closed", "z")] == [{"KafkaAway"}] * 3
    told = [each.path.split("/")[-2] for each in saying.said if each.path.endswith("/status")]
    assert (told.count("a"), told.count("z")) == (1, 1), "what has been taken is not said again"
    assert told.count("closed") > 1, "and what has not, is"


async def test_a_log_that_has_no_such_topic_is_told_of_and_read_once_it_has(engines_home: Path) -> None:
    """The group gives a bridge no partitions then, of which nothing would be unread."""
    broker = Kafka(Folders.under(engines_home, "kafka-without-topics"), *ports.draw(2))
    await asyncio.to_thread(broker.prepare, print)
    child = await running.start(broker)
    assert child is not None
    saying = Saying("default")
    try:
        async with bridging(broker.address, saying.answer) as bridge:
            await until(bridge, lambda: "TopicMissing" in saying.reasons())
            assert saying.reasons() == {"TopicMissing"}
            await topics.create(broker.address, TOPICS)
            await until(bridge, lambda: "Connected" in saying.reasons())
        assert saying.reasons() == {"TopicMissing", "Connected"}
    finally:
        await child.stop()


async def test_while_records_come_a_bridge_says_later_that_it_looks(kafka_address: str) -> None:
    """In the second after a record the operator raises. Method: records that say nothing come without a pause."""
    await topics.create(kafka_address, TOPICS)
    saying = Saying("default")
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_address) as producer,
        bridging(kafka_address, saying.answer) as bridge,
    ):
        await until(bridge, lambda: "Connected" in saying.reasons())
        began = saying.heartbeats()
        async with asyncio.timeout(SAID_S_MAX):
            while saying.heartbeats() < began + 2:
                await producer.send_and_wait(TOPIC, b"", partition=0)
                await asyncio.sleep(CALM_S / 4)
    earlier, later = saying.beaten_s[began : began + 2]
    assert HEARD_S + CALM_S < later - earlier < SILENT_S / 2


@pytest.mark.promise("OPERATOR-4")
async def test_the_offset_of_a_record_is_committed_once_its_object_was_taken_and_not_before(kafka_address: str) -> None:
    await topics.create(kafka_address, TOPICS)
    saying, asked, is_open = Saying("default"), 0, False

    def answer(request: Asked) -> Answer:
        nonlocal asked
        if request.method != "POST":
            return saying.answer(request)
        asked += 1
        return (201, {**request.value, "status": {}}) if is_open else (500, {"message": "not now"})

    before = await committed(kafka_address)
    await publish(kafka_address, [event(SpikeStarted, new_id())])
    async with bridging(kafka_address, answer) as bridge:
        await until(bridge, lambda: asked >= 2)
        assert await committed(kafka_address) == before
        is_open = True
        async with asyncio.timeout(SAID_S_MAX):
            while await committed(kafka_address) == before:
                await asyncio.sleep(0.1)
        assert await committed(kafka_address) == before + 1
