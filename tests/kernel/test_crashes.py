"""Who relays or consumes dies between two steps, and every event arrives all the same, in order, with one effect.

Method: a real process with a failpoint that kills it (SIGKILL), and a successor without; what is delivered is told by the consumer, what
was done is in its table.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from groundswell.kernel import bus, postgres
from groundswell.kernel.bus import dead_letters
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay

from .crashing_process import taking
from .publishing import ALICE, event, publish, running

ROOT = Path(__file__).parents[2]
KEYS = [str(number) for number in range(8)]
EVENTS = 80
"""Half of them before the crash; each key's are numbered upwards, and some of them are urgent."""
ENDS_S_MAX = 90.0
"""The place of a dead consumer stays for ten seconds."""

Delivery = tuple[str, int, str, str]
"""Key, number and id of an event, and its place in the log."""


@asynccontextmanager
async def process(role: str, *names: str, failpoint: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, ended with the block at the latest."""
    path = os.pathsep.join([str(ROOT / "services"), str(ROOT)])
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kernel.crashing_process", role, *names, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "GROUNDSWELL_FAILPOINTS": failpoint and f"{failpoint}=kill"},
    )  # fmt: skip
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def said(made: asyncio.subprocess.Process, deliveries: list[Delivery]) -> None:
    """Notes each delivery that the process tells of, to its end; what it says no more for its death is cut."""
    assert made.stdout is not None
    async for line in made.stdout:
        if line.endswith(b"\n"):
            key, number, id_, place = line.decode().split()
            deliveries.append((key, int(number), id_, place))


async def publish_half(database: postgres.Database, topic: str, half: int) -> None:
    for number in range(half * EVENTS // 2, (half + 1) * EVENTS // 2):
        await publish(database, event(topic, KEYS[number % len(KEYS)], number, urgent=number % 5 == 0))


async def until_done(database: postgres.Database) -> None:
    """Waits until each event has had its effect, and has left."""
    async with asyncio.timeout(ENDS_S_MAX):
        while True:
            async with database.tenant_tx(ALICE) as tx:
                done = await tx.fetchval("SELECT count(*) FROM notes"), await tx.fetchval("SELECT count(*) FROM outbox")
            if done == (EVENTS, 0):
                return
            await asyncio.sleep(0.05)


async def assert_each_once_in_order(database: postgres.Database, deliveries: list[Delivery]) -> None:
    """Every event was delivered, those of a key in order but for repeats, and each has one note."""
    seen: dict[str, list[int]] = {key: [] for key in KEYS}
    ids: set[str] = set()
    for key, number, id_, _ in deliveries:
        if id_ not in ids:
            seen[key].append(number)
        ids.add(id_)
    assert seen == {key: list(range(at, EVENTS, len(KEYS))) for at, key in enumerate(KEYS)}
    assert len(ids) == EVENTS, "a repeat has the id that it had"
    async with database.tenant_tx(ALICE) as tx:
        notes = await tx.fetch("SELECT id FROM notes ORDER BY id")
    assert [note["id"] for note in notes] == list(range(EVENTS))


@pytest.mark.parametrize(("failpoint", "repeats"), [("relay.before_send", False), ("relay.after_send", True)])
async def test_a_relay_that_dies_before_or_after_it_has_sent_loses_nothing_and_no_effect_is_repeated(
    failpoint: str,
    repeats: bool,
    database: postgres.Database,
    app_dsn: str,
    producer: Producer,
    topic: str,
    kafka_address: str,
) -> None:
    """Goal: what was sent and not taken off the outbox is sent once more, which the inbox drops; what was not sent is sent."""
    deliveries: list[Delivery] = []
    take = taking(database, lambda *delivery: deliveries.append(delivery))
    names = app_dsn, kafka_address, topic, f"g-{topic}"
    await publish_half(database, topic, 0)
    async with running(bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        async with process("relay", *names, failpoint=failpoint) as relaying:
            assert await asyncio.wait_for(relaying.wait(), ENDS_S_MAX) == -signal.SIGKILL
        await publish_half(database, topic, 1)
        async with process("relay", *names):
            await until_done(database)
    await assert_each_once_in_order(database, deliveries)
    assert (len({place for *_, place in deliveries}) > EVENTS) == repeats, "the log holds them twice, or once"
    assert await dead_letters.list_letters(kafka_address, topic) == []


async def test_a_consumer_that_dies_between_effect_and_commit_gets_the_events_again_and_repeats_no_effect(
    database: postgres.Database, app_dsn: str, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: offsets follow effects, so a crash in between delivers again, which the inbox drops."""
    deliveries: list[Delivery] = []
    names = app_dsn, kafka_address, topic, f"g-{topic}"
    await publish_half(database, topic, 0)
    async with running(relay(database, producer)):
        async with process("consume", *names, failpoint="consumer.before_commit") as consuming:
            await asyncio.wait_for(said(consuming, deliveries), ENDS_S_MAX)
            assert await consuming.wait() == -signal.SIGKILL
        dead = list(deliveries)
        assert dead
        await publish_half(database, topic, 1)
        async with process("consume", *names) as successor:
            telling = asyncio.create_task(said(successor, deliveries))
            await until_done(database)
        await telling
    await assert_each_once_in_order(database, deliveries)
    assert set(dead) <= set(deliveries[len(dead) :]), "nothing that was not committed is passed over"
    assert await dead_letters.list_letters(kafka_address, topic) == []
