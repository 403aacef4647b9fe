"""Events end to end on a real broker and database: outbox, relay, consumers, dead letters, feeds."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import prometheus_client
import pytest
from aiokafka import AIOKafkaConsumer

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.api.tenancy.v1 import tenancy_pb2 as pb
from groundswell.kernel import bus, clock, errors, ids, postgres
from groundswell.kernel.bus import consumer, dead_letters, frames
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import Outbound, relay
from groundswell.kernel.context import Context

from .wire import Wire

ALICE = Context(tenant=7)


def event(topic: str, key: str, revision: int = 1) -> bus.Outgoing:
    return bus.Outgoing(topic, key, events_pb.TenantCreated(tenant=pb.Tenant(name=f"tenants/{key}", revision=revision)))


async def publish(database: postgres.Database, *events: bus.Outgoing) -> None:
    async with database.tenant_tx(ALICE) as tx:
        await tx.publish(*events)


@asynccontextmanager
async def running(*tasks: Awaitable[None]):  # type: ignore[no-untyped-def]  # a test's own scaffold
    """Runs tasks while the block runs; one that dies fails the test."""
    started = [asyncio.ensure_future(task) for task in tasks]
    try:
        yield
        for task in started:
            if task.done():
                task.result()
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


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
    await _read(kafka_address, topic, 1)
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


async def test_a_poison_event_goes_to_the_dead_letters_and_the_next_one_is_applied(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    got: list[str] = []

    async def take(each: bus.Incoming) -> None:
        if each.key == "poison":
            raise errors.Invalid("It can never be applied.")
        got.append(each.key)

    await producer.send_and_wait(topic, b"no event at all", key=b"garbage")
    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await publish(database, event(topic, "poison"), event(topic, "good"))
        await until(lambda: got == ["good"])
        dead = await _read(kafka_address, f"{topic}.dlq", 2)
    reasons = sorted(dict(record.headers)["dlq_reason"].decode() for record in dead)
    assert reasons[0] == "Invalid: It can never be applied."
    assert reasons[1].startswith("MalformedEvent")


async def test_an_event_that_was_given_up_goes_back_as_it_was(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Key, body and every header: a consumer of the second one reads the same event, of the same moment."""

    async def refuse(each: bus.Incoming) -> None:
        raise errors.Invalid("It can never be applied.")

    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], refuse, producer)):
        await publish(database, event(topic, "7"))
        await _read(kafka_address, f"{topic}.dlq", 1)
    assert await dead_letters.redrive(kafka_address, topic) == 1
    first, again = await _read(kafka_address, topic, 2)
    assert (again.key, again.value, again.headers) == (first.key, first.value, first.headers)


async def test_a_record_whose_header_has_no_value_is_no_event_or_one_without_that_header(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: it ends no process that reads the feed. Method: a header of an event without a value, then one that nobody reads."""
    got: list[bus.Incoming] = []
    headers = [("ce_id", b"1"), ("ce_type", b"t"), ("ce_tenantid", b"7")]
    await producer.send_and_wait(
        topic, b"body", key=b"poison", partition=0, headers=[*headers[:2], ("ce_tenantid", None)]
    )
    await producer.send_and_wait(topic, b"body", key=b"good", partition=0, headers=[*headers, ("extra", None)])
    feed = bus.follow(kafka_address, [topic], got.append, from_start=True)
    async with running(feed.run()):
        await until(feed.caught_up.is_set)
    assert [each.key for each in got] == ["good"]


@pytest.mark.parametrize(
    ("key", "body", "headers"),
    [
        (b"k", bytes((1 << 20) + 1), []),
        (b"k", bytes((1 << 20) - 100), []),
        (b"k", b"body", [("extra", bytes(1 << 20))]),
        (bytes(1 << 20), b"body", []),
        (None, None, [("extra", bytes(1 << 20))]),
    ],
    ids=["body", "body that fits without its reason", "header", "key", "nothing but a header"],
)
async def test_a_record_that_is_too_large_for_a_dead_letter_is_cut_and_never_goes_back(
    key: bytes | None, body: bytes | None, headers: list[tuple[str, bytes]], topic: str, kafka_address: str
) -> None:
    """Goal: one such record does not hold up its partition for ever. Method: what buries it is the producer that processes have."""
    ours = Producer.of_events(kafka_address)
    try:
        async with asyncio.timeout(30):
            await consumer.bury(topic, key, body, [*headers, ("ce_id", b"7")], ValueError("no event"), "notes", ours)
        (letter,) = await _read(kafka_address, f"{topic}.dlq", 1)
        kept = dict(letter.headers)
        whole = body or b""
        assert letter.value == whole[: consumer.CUT_BYTES_MAX]
        assert (letter.key, kept["ce_id"]) == (key and key[: consumer.CUT_BYTES_MAX], b"7")
        assert kept["dlq_cut_bytes"] == b"%d" % len(whole)
        assert f"of the {len(whole)} bytes of its body" in kept["dlq_reason"].decode()
        await ours.send_and_wait(f"{topic}.dlq", b"whole", key=b"k", headers=[("dlq_group", b"notes")])
        assert await dead_letters.redrive(kafka_address, topic) == 1
        assert [record.value for record in await _read(kafka_address, topic, 1)] == [b"whole"]
    finally:
        await ours.close()


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
        await _read(kafka_address, topic, 1)
        async with database.platform_tx() as tx:
            await tx.fetch(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await publish(database, event(topic, "after"))
        await _read(kafka_address, topic, 2)


async def test_a_feed_reads_from_the_start_and_knows_how_fresh_it_is(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    got: list[str] = []
    feed = bus.follow(kafka_address, [topic], lambda each: got.append(each.key), from_start=True)
    assert feed.lag_s() == float("inf")
    async with running(relay(database, producer)):
        await publish(database, *(event(topic, str(n)) for n in range(20)))
        await _read(kafka_address, topic, 20)
        async with running(feed.run()):
            await asyncio.wait_for(feed.caught_up.wait(), 10)
            assert len(got) == 20
            assert feed.lag_s() < 2
            await publish(database, event(topic, "later"))
            await until(lambda: got[-1] == "later", 3)


@pytest.mark.promise("LINKS-9")
async def test_a_feed_says_so_each_time_before_it_counts_as_near_again(topic: str, kafka_address: str) -> None:
    """Goal: what was kept before it began, or while it was too far behind, is forgotten before anybody may trust it."""
    lags_s: list[float] = []
    bound = bus.Bound(2.0, lambda: lags_s.append(feed.lag_s()))
    feed = bus.follow(kafka_address, [topic], lambda each: None, from_start=False, bound=bound)
    async with running(feed.run()):
        await until(lambda: feed.lag_s() < 2)
        assert lags_s == [float("inf")]
        for _ in range(3):
            await _checked(feed)
        assert len(lags_s) == 1
    await until(lambda: feed.lag_s() > 2)
    async with running(feed.run()):
        await until(lambda: feed.lag_s() < 2)
    assert len(lags_s) == 2
    assert lags_s[1] > 2


async def _checked(feed: bus.Feed) -> None:
    """Returns when a check has brought the feed nearer: the moment that it has seen all of moved on."""

    def seen_s() -> float:
        return time.monotonic() - feed.lag_s()

    before_s = seen_s()
    await until(lambda: seen_s() > before_s + 0.05)


async def _read(kafka_address: str, topic: str, count: int) -> list:  # type: ignore[type-arg]  # records of the driver
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_address, auto_offset_reset="earliest", group_id=f"r-{secrets.token_hex(4)}"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_dead_letters_are_listed_and_go_back_once(producer: Producer, topic: str, kafka_address: str) -> None:
    headers = [
        ("ce_id", b"1"),
        ("ce_type", b"t"),
        ("ce_tenantid", b"7"),
        ("dlq_reason", b"Invalid: no"),
        ("dlq_group", b"notes"),
    ]
    for key in (b"a", b"b"):
        await producer.send_and_wait(f"{topic}.dlq", b"body", key=key, headers=headers)
    letters = await dead_letters.list_letters(kafka_address, topic)
    assert [(letter.key, letter.reason, letter.group) for letter in letters] == [
        ("a", "Invalid: no", "notes"),
        ("b", "Invalid: no", "notes"),
    ]
    assert await dead_letters.redrive(kafka_address, topic) == 2
    again = await _read(kafka_address, topic, 2)
    assert {record.key for record in again} == {b"a", b"b"}
    assert "dlq_reason" not in dict(again[0].headers)
    assert await dead_letters.redrive(kafka_address, topic) == 0
    assert await dead_letters.list_letters(kafka_address, topic) == []


@pytest.mark.promise("ANALYTICS-2")
async def test_a_dead_letter_without_a_key_does_not_go_back_to_some_other_partition(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: a frame that is sent again elsewhere makes readers drop the next ones of its producer there."""
    frame = frames.Header(producer_id=1, frame_seq=9, rows=1, min_ts_ms=0, max_ts_ms=0)
    await producer.send_and_wait(f"{topic}.dlq", b"frame", headers=frame.to_record())
    with pytest.raises(dead_letters.KeyMissing):
        await dead_letters.redrive(kafka_address, topic)
    assert len(await dead_letters.list_letters(kafka_address, topic)) == 1
