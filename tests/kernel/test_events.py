"""Events end to end on a real broker and database: outbox, relay, consumers."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import prometheus_client
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownError

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.kernel import bus, clock, errors, ids, postgres
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import Outbound, relay

from .publishing import ALICE, event, publish, read, running, until
from .wire import Wire


async def test_an_event_arrives_with_its_tenant_type_and_message(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    got: list[bus.Incoming] = []

    async def take(each: bus.Incoming) -> None:
        got.append(each)

    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await publish(database, event(topic, "7"))
        await until(lambda: len(got) == 1)
    assert (got[0].tenant, got[0].key, got[0].is_a(events_pb.TenantCreated)) == (7, "7", True)
    assert got[0].parse(events_pb.TenantCreated).tenant.name == "tenants/7"


async def test_what_a_coordinator_refuses_does_not_end_a_consumer(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka raises from `getmany` what it does not know of a group's coordinator, and that consumer works no more."""
    got, refused, real = list[str](), list[AIOKafkaConsumer](), AIOKafkaConsumer.getmany

    async def take(each: bus.Incoming) -> None:
        got.append(each.key)

    async def getmany(consumer: AIOKafkaConsumer, *partitions: object, **bounds: Any) -> Any:
        if (got and not refused) or consumer in refused:
            refused.append(consumer)
            raise UnknownError
        return await real(consumer, *partitions, **bounds)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await publish(database, event(topic, "before"))
        await until(lambda: bool(refused))
        await publish(database, event(topic, "after"))
        await until(lambda: "after" in got)
    assert got == ["before", "after"]


async def test_what_is_rolled_back_never_leaves(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    got: list[str] = []

    async def take(each: bus.Incoming) -> None:
        got.append(each.key)

    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # what fails is the transaction as a whole
        async with database.tenant_tx(ALICE) as tx:
            await tx.publish(event(topic, "never"))
            raise ZeroDivisionError
    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await publish(database, event(topic, "kept"))
        await until(lambda: bool(got))
    assert got == ["kept"]


async def test_a_backlog_leaves_in_order_per_key_and_the_hook_sees_each_event_first(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    for start in range(0, 2_500, 500):
        await publish(database, *(event(topic, str(n % 10), n) for n in range(start, start + 500)))
    hooked: list[int] = []
    got: list[bus.Incoming] = []

    async def hook(rows: Sequence[Outbound]) -> None:
        hooked.extend(row.sequence for row in rows)

    async def take(each: Sequence[bus.Incoming]) -> None:
        assert len(hooked) >= len(got) + len(each)
        got.extend(each)

    async with running(
        relay(database, producer, hook), bus.consume_batches(kafka_address, f"g-{topic}", [topic], take, producer)
    ):
        await until(lambda: len(got) >= 2_500)
    for key in map(str, range(10)):
        revisions: list[int] = [e.parse(events_pb.TenantCreated).tenant.revision for e in got if e.key == key]
        assert revisions == sorted(set(revisions))
        assert len(revisions) == 250
    async with database.platform_tx() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox") == 0


async def test_what_a_relay_holds_shows_since_when_also_while_it_fails_and_tries_again(
    database: postgres.Database, producer: Producer, topic: str
) -> None:
    tried, blocked = [], True

    async def hook(rows: Sequence[Outbound]) -> None:
        tried.append(time.time())
        if blocked:
            raise ConnectionError("the cache is away")

    def held() -> float:
        lines = prometheus_client.generate_latest().decode().splitlines()
        name = urlsplit(database.dsn).path.removeprefix("/")
        wanted = f'groundswell_outbox_held_timestamp_seconds{{database="{name}"}} '
        return float(next((line.removeprefix(wanted) for line in lines if line.startswith(wanted)), -1))

    async with running(relay(database, producer, hook)):
        await until(lambda: held() == 0)
        await publish(database, event(topic, "1"))
        await until(lambda: len(tried) >= 3)
        assert 0 < held() <= tried[0]
        blocked = False
        await until(lambda: held() == 0)


async def test_a_relay_that_is_told_to_end_sends_what_is_left(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: the last change before a stop does not wait for a successor."""
    relaying = asyncio.create_task(relay(database, producer))
    await publish(database, event(topic, "first"))
    await read(kafka_address, topic, 1)
    await publish(database, *(event(topic, str(n)) for n in range(1_500)))
    relaying.cancel()
    await asyncio.wait({relaying}, timeout=30)
    assert relaying.cancelled()
    async with database.platform_tx() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_relay_that_is_told_to_end_does_not_wait_for_what_it_can_not_send(
    database: postgres.Database, producer: Producer, topic: str
) -> None:
    """It stays in the outbox, for a successor."""
    met = asyncio.Event()

    async def hook(rows: Sequence[Outbound]) -> None:
        met.set()
        raise ConnectionError("the cache is away")

    await publish(database, event(topic, "1"))
    relaying = asyncio.create_task(relay(database, producer, hook))
    await asyncio.wait_for(met.wait(), 30)
    relaying.cancel()
    await asyncio.wait({relaying}, timeout=30)
    assert relaying.cancelled()
    async with database.platform_tx() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox") == 1


async def test_an_event_delivered_twice_has_one_effect(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """The inbox row is in the effect's transaction; the relay's crash between send and delete delivers again."""
    seen: list[str] = []

    async def take(each: bus.Incoming) -> None:
        async with database.tenant_tx(ALICE) as tx:
            if await tx.first_time(each, "notes"):
                await tx.execute("INSERT INTO notes VALUES (7, $1, 'x')", int(each.key))
        seen.append(each.key)

    await publish(database, event(topic, "1"))
    async with database.platform_tx() as tx:
        await tx.execute("INSERT INTO outbox (topic, key, headers, body) SELECT topic, key, headers, body FROM outbox")
    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await until(lambda: len(seen) == 2)
    async with database.tenant_tx(ALICE) as tx:
        assert await tx.fetchval("SELECT count(*) FROM notes") == 1


async def test_an_event_waits_while_what_it_needs_is_away(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    tries: list[str] = []

    async def take(each: bus.Incoming) -> None:
        tries.append(each.key)
        if len(tries) < 8:
            raise errors.Unavailable("The database does not answer.")

    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await publish(database, event(topic, "1"))
        await until(lambda: len(tries) == 8, 40)


async def test_the_relay_outlives_a_server_that_says_its_last_words_and_has_not_gone_yet(
    database: postgres.Database, app_dsn: str, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Else a restart of PostgreSQL ended, now and then, the process of each service."""
    wire = Wire(b"never said", "break", lingers=True)
    async with (
        wire.to(app_dsn) as dsn,
        postgres.opened(dsn, ids.Ids(clock.SystemClock())) as far,
        running(relay(far, producer)),
    ):
        await publish(database, event(topic, "before"))
        await read(kafka_address, topic, 1)
        async with database.platform_tx() as tx:
            await tx.fetch(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await publish(database, event(topic, "after"))
        await read(kafka_address, topic, 2)
