"""Feeds on a real broker: what they read, how fresh they know themselves to be, and what ends none."""

import asyncio
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from groundswell.kernel import bus, clock, postgres
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay
from tests.broker import PARTITIONS

from .publishing import event, publish, read, running, until


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


async def test_a_feed_reads_from_the_start_and_knows_how_fresh_it_is(
    database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    got: list[str] = []
    feed = bus.follow(kafka_address, [topic], lambda each: got.append(each.key), from_start=True)
    assert feed.lag_s() == float("inf")
    async with running(relay(database, producer)):
        await publish(database, *(event(topic, str(n)) for n in range(20)))
        await read(kafka_address, topic, 20)
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


async def test_a_feed_that_slept_is_behind_until_it_has_heard_again(topic: str, kafka_address: str) -> None:
    """Goal: what was kept before the night is forgotten in the morning, before anybody may trust it."""
    asleep_s, lags_s = 0.0, list[float]()
    bound = bus.Bound(10.0, lambda: lags_s.append(feed.lag_s()))
    feed = bus.follow(
        kafka_address,
        [topic],
        lambda each: None,
        from_start=False,
        bound=bound,
        now_s=lambda: clock.lasting_s() + asleep_s,
    )
    async with running(feed.run()):
        await until(lambda: feed.lag_s() < 10)
        asleep_s = 3_600.0
        assert feed.lag_s() > 3_000
        await until(lambda: feed.lag_s() < 10)
    assert lags_s[0] == float("inf")
    assert lags_s[1] > 3_000


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system names no clock that goes on in sleep")
def test_what_lasts_is_counted_on_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before_s <= clock.SystemClock().lasting_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_a_feed_of_changes_reads_all_that_there_is_once_the_log_no_longer_has_its_place(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: what was written where the log had lost its end is heard. Method: the topic is made anew, shorter than the feed had read it."""
    got: list[str] = []
    feed = bus.follow(kafka_address, [topic], lambda each: got.append(each.key), from_start=False)
    headers = [("ce_id", b"1"), ("ce_type", b"t"), ("ce_tenantid", b"7")]
    for number in range(5):
        await producer.send_and_wait(topic, b"body", key=b"before %d" % number, partition=0, headers=headers)
    async with running(feed.run()):
        await until(feed.caught_up.is_set)
        await producer.send_and_wait(topic, b"body", key=b"heard", partition=0, headers=headers)
        await until(lambda: got == ["heard"])
        await _made_anew(kafka_address, topic)
        await producer.send_and_wait(topic, b"body", key=b"after", partition=0, headers=headers)
        await until(lambda: got[-1] == "after", 60)
    assert got == ["heard", "after"]


async def _made_anew(kafka_address: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_address)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            while topic in await admin.list_topics():
                await asyncio.sleep(0.05)
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()


async def _checked(feed: bus.Feed) -> None:
    """Returns when a check has brought the feed nearer: the moment that it has seen all of moved on."""

    def seen_s() -> float:
        return time.monotonic() - feed.lag_s()

    before_s = seen_s()
    await until(lambda: seen_s() > before_s + 0.05)
