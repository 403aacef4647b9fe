"""Corrupt frames are set aside with their reason, the sound ones around them are stored, and the books balance.

Goal: what the writer promises of frames that it cannot count. Method: records of every kind of damage between sound ones, the real
writer in a child process, the topic of dead letters read back.
"""

import signal
from collections import Counter
from collections.abc import AsyncIterator

import pyarrow as pa
import pytest
from aiokafka import AIOKafkaProducer

from groundswell.kernel.bus import dead_letters, frames
from tests.analytics.conftest import PARTITIONS, WriterProcess
from tests.analytics.test_writer_crash import rows, unequal

ROWS = 50
PRODUCER = 77
Headers = list[tuple[str, bytes | None]]
"""As the log can hold them: a header's value may be null."""


def sound(sequence: int) -> tuple[bytes, Headers]:
    batch = frames.record_batch(rows(ROWS))
    return frames.encode(batch), [*frames.Header(PRODUCER, sequence, ROWS, 0, 0).to_record()]


def changed(headers: Headers, name: str, value: bytes | None) -> Headers:
    return [(each, value if each == name else old) for each, old in headers]


def nameless_kind() -> bytes:
    """A frame whose rows all point to one kind, which is null: no column holds a null, as Arrow counts them."""
    batch = frames.record_batch(rows(ROWS))
    kinds = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int16()), pa.array([None], pa.string()))
    columns = [kinds if name == "kind" else batch.column(name) for name in batch.schema.names]
    return frames.encode(pa.RecordBatch.from_arrays(columns, schema=batch.schema))


def damaged() -> list[tuple[str, bytes, Headers, int]]:
    """(reason, body, headers, rows that the books hold of it) for every kind of damage."""
    body, headers = sound(1)
    other = pa.BufferOutputStream()
    foreign = pa.record_batch({"x": list(range(ROWS))})
    with pa.ipc.new_stream(other, foreign.schema) as stream:
        stream.write_batch(foreign)
    nameless, future = nameless_kind(), changed(headers, "schema", b"2")
    claims = [
        ("A frame of -5 rows is not allowed", b"-5"),
        ("A frame of 5000000000 rows is not allowed", b"5000000000"),
        ("A frame of 33333333333333333333 rows is not allowed", b"3" * 4_000),
        ("The headers `n` and `schema` are missing or unreadable", b"3" * 5_000),
    ]
    return [
        ("The body is no Arrow stream", b"not arrow", headers, ROWS),
        ("The body is no Arrow stream", body[: len(body) // 2], headers, ROWS),
        ("The body is no Arrow stream", b"", headers, ROWS),
        ("The columns are not those of schema 1", other.getvalue().to_pybytes(), headers, ROWS),
        ("A kind or a name that rows may point to is null", nameless, headers, ROWS),
        ("The header says 51 rows, the body has 50", body, changed(headers, "n", b"51"), 51),
        ("A frame of 9000 rows is not allowed", body, changed(headers, "n", b"9000"), 0),
        ("The schema b'2' is not known here", body, changed(headers, "schema", b"2"), ROWS),
        *((reason, body, changed(future, "n", rows), 0) for reason, rows in claims),
        ("The headers `n` and `schema` are missing or unreadable", body, headers[:1], 0),
        ("The headers `n` and `schema` are missing or unreadable", body, [], 0),
        ("The headers `n` and `schema` are missing or unreadable", body, changed(headers, "n", None), 0),
        ("A header is missing or unreadable", body, changed(headers, "frame_seq", None), ROWS),
        ("A header is missing or unreadable", body, headers[:3], ROWS),
        ("A header is missing or unreadable", body, [*headers, ("batches", b"cut off")], ROWS),
        ("The frame's name is out of range", body, changed(headers, "producer_id", b"-1"), ROWS),
    ]


@pytest.fixture
async def log(kafka_address: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_address)
    await producer.start()
    yield producer
    await producer.stop()


async def given(log: AIOKafkaProducer, topic: str) -> None:
    """A sound frame in every partition, the damaged ones of the list spread over them, and a sound one behind."""
    for partition in range(PARTITIONS):
        body, headers = sound(1)
        await log.send_and_wait(topic, body, partition=partition, headers=headers)
    for number, (_, body, headers, _) in enumerate(damaged()):
        await log.send_and_wait(topic, body, partition=number % PARTITIONS, headers=headers)
    for partition in range(PARTITIONS):
        body, headers = sound(2)
        await log.send_and_wait(topic, body, partition=partition, headers=headers)


async def buried(bootstrap: str, topic: str) -> Counter[str]:
    """The reasons in the dead letters, cut at what only the library words."""
    letters = await dead_letters.list_letters(bootstrap, topic)
    known = {reason for reason, *_ in damaged()}
    return Counter(next(each for each in known if f"CorruptFrame: {each}" in letter.reason) for letter in letters)


async def balanced(process: WriterProcess) -> None:
    """All that was accepted is stored or set aside, and what is stored is in every rollup."""
    stored, aside = 2 * PARTITIONS * ROWS, sum(rows for *_, rows in damaged())
    await process.done(stored)
    await process.stop()
    counts = await process.counts()
    assert set(unequal(counts, stored)) == {"accepted"}, counts
    assert (counts["accepted"], counts["parked"]) == (stored + aside, aside)


@pytest.mark.promise("ANALYTICS-2")
async def test_each_corrupt_frame_is_buried_once_with_its_reason_and_the_frames_around_it_are_stored(
    log: AIOKafkaProducer, kafka_address: str, frames_topic: str, writer_process: WriterProcess
) -> None:
    await given(log, frames_topic)
    await writer_process.start()
    await balanced(writer_process)
    assert await buried(kafka_address, frames_topic) == Counter(reason for reason, *_ in damaged())
    letters = await dead_letters.list_letters(kafka_address, frames_topic)
    assert {letter.group for letter in letters} == {f"{frames_topic}.writer"}


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize("failpoint", ["writer.after_set_aside", "writer.after_set_aside=kill@3", "writer.after_rows"])
async def test_a_writer_that_dies_after_it_buried_a_frame_buries_it_again_and_the_books_balance(
    failpoint: str, log: AIOKafkaProducer, kafka_address: str, frames_topic: str, writer_process: WriterProcess
) -> None:
    """A dead letter is there at least once: its topic and the store have no transaction in common."""
    await given(log, frames_topic)
    point = failpoint if "=" in failpoint else f"{failpoint}=kill"
    await writer_process.start(GROUNDSWELL_FAILPOINTS=point)
    assert await writer_process.died() == -signal.SIGKILL
    await writer_process.start()
    await balanced(writer_process)
    found, expected = await buried(kafka_address, frames_topic), Counter(reason for reason, *_ in damaged())
    assert set(found) == set(expected)
    assert all(count <= found[reason] <= 2 * count for reason, count in expected.items()), found
    assert found.total() > expected.total(), "nothing was buried twice, so the crash came too late to show anything"
