"""Reads the topic and hands on what it says, one look after the other; commits what the API server has answered."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from groundswell_operator import health
from groundswell_operator.applying import connecting
from groundswell_operator.applying.errors import ODD, Away, Conflict, Refused
from groundswell_operator.applying.requests import (
    RECORD_WRITES_S_MAX,
    SOURCE_WRITES_S_MAX,
    Asking,
    Pace,
    Requests,
)
from groundswell_operator.bridge.intake import Governed, Intake
from groundswell_operator.bridge.records import TOPIC
from groundswell_operator.bridge.sources import Source, Sources, due_s
from groundswell_operator.bridge.taking import Taker
from groundswell_operator.settings import SettingMissing, Settings

log = logging.getLogger(__name__)

GROUP_ID = "operator-bridge"
RECORDS_MAX = 1_000
"""Of one look: of so many at once the biggest spikes are taken first."""
TAKE_MS_MAX = 1_500_000
"""After which the group takes its partitions away: a thousand new spikes of twelve policies, at the pace of what records call for."""
WAIT_MS = 500
BROKER_RETRY_S = 1.0
ASKED_S_MAX = 3.0
REPORT_S = 1.0
"""How often it is looked, while it waits for the group or takes records, whether it is time to say so."""
METADATA_MS_MAX = 10_000
"""After which it asks again where the topic is: one that is made anew is read soon."""
LOOK_S = 30.0
"""How often it looks for policies that nothing was said in yet, while there is nothing new to say."""


async def run(settings: Settings) -> int:
    """The bridge, until it is told to end; it then leaves its partitions to others at once. Returns the exit code."""
    if not settings.kafka:
        raise SettingMissing("KAFKA_BOOTSTRAP_SERVERS must say where spikes.events.v1 is")
    async with connecting.session(settings.identity) as session:
        asking, telling = (Requests(session, Pace(most)) for most in (RECORD_WRITES_S_MAX, SOURCE_WRITES_S_MAX))
        bridge = Bridge(settings, asking, telling)
        async with health.served(settings.bind, settings.port, bridge.progressed, bridge.figures):
            reading = asyncio.create_task(bridge.run())
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, reading.cancel)
            with suppress(asyncio.CancelledError):
                await reading
    if not reading.cancelling():
        log.error("Kafka's driver has given up the group; the bridge must be started again")
        return 1
    return 0


class Bridge:
    """One reader of the topic."""

    def __init__(self, settings: Settings, asking: Asking, telling: Asking) -> None:
        """`telling` has a pace of its own, so that no raise waits for what is said of the source."""
        self._registry = CollectorRegistry()
        records = Counter(
            "groundswell_bridge_records_total", "Records by outcome.", ["outcome"], registry=self._registry
        )
        self._lag = Gauge("groundswell_bridge_lag_records", "Records that were not read yet.", registry=self._registry)
        self._lag.set(float("nan"))  # nobody knows yet
        self._intake = Intake(asking, settings.namespace, records)
        self._taker = Taker(self._intake, records)
        self._sources = Sources(telling, settings.namespace, settings.identity, settings.deployment)
        self._consumer = AIOKafkaConsumer(
            TOPIC,
            bootstrap_servers=settings.kafka,
            group_id=GROUP_ID,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=TAKE_MS_MAX,
            metadata_max_age_ms=METADATA_MS_MAX,
        )
        self._reads = False
        """Whether Kafka has let it into the group: before that it is asked for no offset."""
        self._progressed_s = time.monotonic()
        self._reported_s = self._taken_s = float("-inf")
        self._reporting: asyncio.Task[None] | None = None
        self._last_lag: int | None = None
        self._said: tuple[int | None, float | None, bool] = None, None, False
        self._looked_s = float("-inf")

    def progressed(self) -> float:
        """When something was last read, or was found to be away (monotonic)."""
        return max(self._progressed_s, self._taker.progressed_s)

    def figures(self) -> bytes:
        """For Prometheus."""
        return bytes(generate_latest(self._registry))

    async def run(self) -> None:
        """Reads until it is cancelled."""
        try:
            await self._started()
            while True:
                await self._once()
        finally:
            ending = [self._consumer.stop()]  # which may raise a cancellation of its own, in place of what happened
            if self._reporting is not None:
                self._reporting.cancel()
                ending.append(self._reporting)
            await asyncio.gather(*ending, return_exceptions=True)

    async def _started(self) -> None:
        while True:
            try:
                await self._beside(self._consumer.start(), joins=True)
                self._reads, self._reported_s = True, float("-inf")  # what it knows now is said at once
                return
            except KafkaError as error:
                log.warning("waiting for Kafka: %s", type(error).__name__)
                self._progressed_s = time.monotonic()
                self._report_in_time()
                await asyncio.sleep(BROKER_RETRY_S)

    async def _once(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=WAIT_MS, max_records=RECORDS_MAX)
        if batches:
            self._taken_s = time.monotonic()
        await self._beside(self._taker.take([each for records in batches.values() for each in records]))
        for partition, records in batches.items():
            await self._commit(partition, records[-1].offset + 1)
        self._report_in_time()
        self._progressed_s = time.monotonic()

    async def _beside(self, doing: Coroutine[object, object, None], *, joins: bool = False) -> None:
        """Says meanwhile that the bridge looks: a thousand spikes at once are minutes of writes, and a topic may be long in coming."""
        task = asyncio.create_task(doing)
        try:
            while not (await asyncio.wait({task}, timeout=REPORT_S))[0]:
                self._report_in_time(joins=joins)
        finally:
            task.cancel()
        await task

    async def _commit(self, partition: TopicPartition, offset: int) -> None:
        try:
            await self._consumer.commit({partition: offset})
        except (CommitFailedError, IllegalStateError):
            log.info("the partition %s moved before its commit: who has it reads these records again", partition)
        except KafkaError as error:
            log.warning("a commit waits for the next one: %s", type(error).__name__)

    def _report_in_time(self, *, joins: bool = False) -> None:
        """Beside the reading: a record must not wait for what is said of earlier ones. Raises what the last report did."""
        now_s = time.monotonic()
        if now_s >= due_s(self._reported_s, self._taken_s):
            if self._reporting is not None:
                if not self._reporting.done():
                    return
                self._reporting.result()
            self._reported_s = now_s
            self._reporting = asyncio.create_task(self._report(joins))

    async def _report(self, joins: bool) -> None:
        """Says that the bridge looks, and in each policy's status whether the log answers; that this fails is no reason to stop.

        Who only `joins` the group does not know that yet, and is not heard of, unless there is no topic that it could read.
        """
        try:
            lag, is_missing = await self._behind()
            self._lag.set(lag if lag is not None else float("nan"))
            self._last_lag = self._last_lag if lag is None else lag
            if joins and not is_missing:
                return
            await self._sources.beat()
            said = lag, self._taker.last_record_s, is_missing
            if said == self._said and time.monotonic() - self._looked_s < LOOK_S:
                return
            source = Source(lag is not None, self._last_lag, self._taker.last_record_s, 0, is_missing)
            told = [await self._told(each, source) for each in await self._intake.policies()]
            if all(told):
                self._said, self._looked_s = said, time.monotonic()
        except (*ODD, Away, Refused, Conflict) as error:
            log.warning("the source's state was not written: %s", error)

    async def _told(self, governed: Governed, source: Source) -> bool:
        """Whether it could be said in a policy's status: one that takes nothing keeps it from no other. Raises where nobody is told."""
        await self._sources.beat()  # policies by the hundred take longer than it may be silent
        name = governed.policy.name
        try:
            found = dataclasses.replace(source, too_old=self._taker.late(name))
            await self._sources.tell(governed.value, found, self._intake.now_s())
        except (*ODD, Away, Refused, Conflict) as error:
            log.warning("the source's state was not written into the policy %s: %s", name, error)
            return False
        return True

    async def _behind(self) -> tuple[int | None, bool]:
        """The records that were not read yet, None while that is not known, and whether Kafka is there and the topic is not: a group
        gives no partitions of it then, of which nothing would be unread."""
        try:
            async with asyncio.timeout(ASKED_S_MAX):
                if TOPIC not in await self._consumer.topics():
                    return None, True
                if not self._reads:
                    return None, False
                ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
                read = [await self._consumer.position(each) for each in ends]
        except (KafkaError, TimeoutError):
            return None, False
        return int(sum(ends.values()) - sum(read)), False
