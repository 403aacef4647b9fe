"""What bounds frames and their journal: sizes, partitions that come and go, and the end of a lane that cannot go on."""

import asyncio
import os
from pathlib import Path

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError

from groundswell.kernel import errors
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames import codec
from groundswell.kernel.resources import Resources

from .framing import Log, died, producer, segments, some_rows, until_delivered
from .test_resources import environment


class Sizes(Log):
    """Knows how big the biggest frame was."""

    bytes_max = 0

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.bytes_max = max(self.bytes_max, len(value) + sum(len(content) for _, content in headers))
        await super().send(partition, value, headers)


class Broken(Log):
    """Fails as nothing that is away does."""

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        raise RuntimeError("a mistake")


def noise(count: int, props_bytes: int) -> list[frames.Row]:
    """Rows that no compression makes smaller, all of one partition."""
    return [frames.Row(n, "view", 1, n, 1, props=os.urandom(props_bytes // 2).hex()) for n in range(count)]


async def test_no_frame_is_too_big_for_the_broker_whatever_the_settings_say(tmp_path: Path) -> None:
    log = Sizes()
    made = producer(tmp_path, log, frame_bytes_max=64 << 20, frame_rows_max=1 << 20)
    rows = noise(120, codec.PROPS_BYTES_MAX)
    for row in rows[:60]:
        made.append(row)
    made.append_columns(frames.record_batch(rows[60:]))
    await until_delivered(made)
    await made.close()
    assert sorted(log.rows()) == rows
    assert 256 * 1024 < log.bytes_max <= codec.FRAME_BYTES_MAX


async def test_frames_of_many_small_batches_are_not_too_big_either(tmp_path: Path) -> None:
    log = Sizes()
    log.up = False
    made = producer(tmp_path, log)
    for row in noise(9_000, 10):
        made.append_batch([row], os.urandom(16))
    log.up = True
    await until_delivered(made)
    await made.close()
    assert max(frame.header.rows for _, frame in log.frames) > 8_000
    assert log.bytes_max <= codec.FRAME_BYTES_MAX


async def test_a_row_of_columns_that_fits_into_no_frame_is_refused(tmp_path: Path) -> None:
    made = producer(tmp_path, Log())
    with pytest.raises(errors.Invalid):
        made.append_columns(frames.record_batch(noise(1, codec.FRAME_BYTES_MAX * 2)))
    await made.close()


async def test_columns_that_are_refused_in_part_are_delivered_in_part(tmp_path: Path) -> None:
    """Goal: what is in the journal does not wait for another row to be sent."""
    log = Log()
    made = producer(tmp_path, log, journal_bytes_max=50_000, frame_rows_max=200)
    with pytest.raises(frames.JournalFull):
        made.append_columns(frames.record_batch(noise(1_000, 200)))
    await until_delivered(made)
    assert len(log.rows()) % 200 == 0
    assert log.rows()
    await made.close()


@pytest.mark.promise("GATEWAY-8")
async def test_what_a_journal_holds_for_partitions_that_are_no_more_used_is_delivered_to_them(tmp_path: Path) -> None:
    log = Log()
    log.up = False
    first = frames.FrameProducer(frames.Journal(tmp_path, 8), log, frames.FrameSettings(partitions=8))
    first.start()
    for row in some_rows(100):
        first.append(row)
    died(first)
    log.up = True
    for start in (100, 200):
        successor = frames.FrameProducer(frames.Journal(tmp_path, 4), log, frames.FrameSettings(partitions=4))
        successor.start()
        for row in some_rows(100, start=start):
            successor.append(row)
        await until_delivered(successor)
        await successor.close()
    assert sorted(log.rows()) == some_rows(300)
    assert {partition for partition, frame in log.frames if frame.header.min_ts_ms < some_rows(101)[100].ts_ms} == set(
        range(8)
    )


async def test_while_the_log_is_away_the_journal_is_many_segments(tmp_path: Path) -> None:
    """Goal: what is delivered can be deleted, however long the log was away."""
    log = Log()
    log.up = False
    made = producer(tmp_path, log, segment_bytes=10_000)
    for row in some_rows(2_000):
        made.append(row)
    assert len(segments(tmp_path)) > 10
    assert max(segment.stat().st_size for segment in segments(tmp_path)) < 11_000
    log.up = True
    await until_delivered(made)
    assert len(segments(tmp_path)) == 1
    await made.close()


async def test_what_ends_a_lane_for_good_is_raised_to_who_watches_and_nobody_waits_for_it_to_drain(
    tmp_path: Path,
) -> None:
    made = producer(tmp_path, Broken())
    made.append(some_rows(1)[0])
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError):
            await made.watch()
        await made.close()


async def test_a_process_is_told_when_its_frames_can_not_be_delivered_any_more(tmp_path: Path) -> None:
    """Goal: such a process ends, as with all that runs in its background."""
    async with Resources.open(environment("127.0.0.1:1", tmp_path)) as resources:
        await resources.frames()
        assert [task.done() for task, name in resources.running.items() if name == "frames"] == [False]


async def test_a_partition_that_the_topic_does_not_have_is_waited_for(kafka_address: str, topic: str) -> None:
    """Goal: it is no mistake that ends the process: the topic may get it yet."""
    sender = frames.KafkaSender(kafka_address, topic)
    await sender.send(3, b"frame", [])
    with pytest.raises(UnknownTopicOrPartitionError):
        await sender.send(9, b"frame", [])
    await sender.close()
