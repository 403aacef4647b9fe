"""Dead letters on a real broker: what goes there, what it says, and how it comes back."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from groundswell.kernel import bus, errors, postgres
from groundswell.kernel.bus import consumer, dead_letters, frames
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay

from .publishing import event, publish, read, running, until


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
        dead = await read(kafka_address, f"{topic}.dlq", 2)
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
        await read(kafka_address, f"{topic}.dlq", 1)
    assert await dead_letters.redrive(kafka_address, topic) == 1
    first, again = await read(kafka_address, topic, 2)
    assert (again.key, again.value, again.headers) == (first.key, first.value, first.headers)


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
        (letter,) = await read(kafka_address, f"{topic}.dlq", 1)
        kept = dict(letter.headers)
        whole = body or b""
        assert letter.value == whole[: consumer.CUT_BYTES_MAX]
        assert (letter.key, kept["ce_id"]) == (key and key[: consumer.CUT_BYTES_MAX], b"7")
        assert kept["dlq_cut_bytes"] == b"%d" % len(whole)
        assert f"of the {len(whole)} bytes of its body" in kept["dlq_reason"].decode()
        await ours.send_and_wait(f"{topic}.dlq", b"whole", key=b"k", headers=[("dlq_group", b"notes")])
        assert await dead_letters.redrive(kafka_address, topic) == 1
        assert [record.value for record in await read(kafka_address, topic, 1)] == [b"whole"]
    finally:
        await ours.close()


async def test_who_lists_letters_hears_that_the_broker_went_away_meanwhile(
    monkeypatch: pytest.MonkeyPatch, producer: Producer, topic: str, kafka_address: str
) -> None:
    """Method: nothing comes any more, and who asks then is not answered."""
    ends, asked = AIOKafkaConsumer.end_offsets, list[object]()

    async def end_offsets(reader: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        asked.append(partitions)
        if len(asked) > 1:
            raise KafkaTimeoutError
        found: dict[TopicPartition, int] = await ends(reader, partitions)
        return found

    async def nothing(*_: object, **__: object) -> dict[TopicPartition, list[ConsumerRecord]]:
        return {}

    await producer.send_and_wait(f"{topic}.dlq", b"body", key=b"k")
    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", end_offsets)
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", nothing)
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await asyncio.wait_for(dead_letters.list_letters(kafka_address, topic), 60)


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
    again = await read(kafka_address, topic, 2)
    assert {record.key for record in again} == {b"a", b"b"}
    assert "dlq_reason" not in dict(again[0].headers)
    assert await dead_letters.redrive(kafka_address, topic) == 0
    assert await dead_letters.list_letters(kafka_address, topic) == []


async def test_letters_that_went_back_are_gone_whoever_remembers_how_far_the_redrive_came(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    """Goal: brokers forget the group of redrives after a week, and then nothing goes back twice. Also not what was redriven in another
    run, or by a version that deleted nothing, which here is the group's mark alone."""
    for key in (b"a", b"b", b"c"):
        await producer.send_and_wait(f"{topic}.dlq", b"body", key=key)
    await _passed_over(kafka_address, topic, 2)
    assert [each.key for each in await dead_letters.list_letters(kafka_address, topic)] == ["c"]
    assert await dead_letters.redrive(kafka_address, topic) == 1
    assert await _begins(kafka_address, topic) == 3
    await producer.send_and_wait(f"{topic}.dlq", b"body", key=b"d")
    assert await dead_letters.redrive(kafka_address, topic) == 1
    assert await _begins(kafka_address, topic) == 4
    assert [record.key for record in sorted(await read(kafka_address, topic, 2), key=_key)] == [b"c", b"d"]


async def test_letters_before_a_mark_that_is_not_of_their_log_go_back_before_they_are_deleted(
    producer: Producer, topic: str, kafka_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: a log that lost its end, as with a broker's disk, loses no letter more. Method: the mark of a longer one."""
    for key in (b"a", b"b"):
        await producer.send_and_wait(f"{topic}.dlq", b"body", key=key)
    await _passed_over(kafka_address, topic, 5)
    assert [each.key for each in await dead_letters.list_letters(kafka_address, topic)] == ["a", "b"]
    assert f"redrives came to 5 in partition 0 of {topic}.dlq, which ends at 2" in caplog.text
    assert await dead_letters.redrive(kafka_address, topic) == 2
    assert await _begins(kafka_address, topic) == 2
    await producer.send_and_wait(f"{topic}.dlq", b"body", key=b"c")
    assert await dead_letters.redrive(kafka_address, topic) == 1, "the mark is of this log by now"
    assert [record.key for record in sorted(await read(kafka_address, topic, 3), key=_key)] == [b"a", b"b", b"c"]


async def test_a_letter_that_does_not_go_back_stays_and_those_behind_it_do_so_once(
    producer: Producer, topic: str, kafka_address: str
) -> None:
    """One that was cut, then one without a key: what is before it is deleted, itself never."""
    cut = [("dlq_cut_bytes", b"2000000")]
    for key, headers in ((b"a", []), (b"b", cut), (b"c", []), (None, []), (b"d", [])):
        await producer.send_and_wait(f"{topic}.dlq", b"body", key=key, headers=headers)
    for _ in range(2):
        with pytest.raises(dead_letters.KeyMissing):
            await dead_letters.redrive(kafka_address, topic)
        assert await _begins(kafka_address, topic) == 1
    assert [each.key for each in await dead_letters.list_letters(kafka_address, topic)] == ["", "d"]
    assert [record.key for record in sorted(await read(kafka_address, topic, 2), key=_key)] == [b"a", b"c"]


def _key(record: ConsumerRecord) -> bytes:
    return record.key or b""


async def _begins(kafka_address: str, topic: str) -> int:
    """The offset of the first letter that is left."""
    partition = TopicPartition(f"{topic}.dlq", 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka_address) as consumer:
        return int((await consumer.beginning_offsets([partition]))[partition])


async def _passed_over(kafka_address: str, topic: str, offset: int) -> None:
    """Leaves the mark of a redrive."""
    partition = TopicPartition(f"{topic}.dlq", 0)
    group = f"{dead_letters.GROUP}.{topic}"
    async with AIOKafkaConsumer(bootstrap_servers=kafka_address, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([partition])
        await consumer.commit({partition: offset})


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


def test_a_topic_without_dead_letters_is_answered_with_the_ten_nearest_that_have_some() -> None:
    kept = [f"frames-{number:03}" for number in range(300)] + ["links.events.v1"]
    assert "They are of: links.events.v1, " in str(dead_letters.NoDeadLetters("links.event.v1", kept))
    assert str(dead_letters.NoDeadLetters("links.event.v1", kept)).endswith(" and 291 more.")
    assert str(dead_letters.NoDeadLetters("typo", [])) == "No dead letters are kept of 'typo'. They are of: no topic."
