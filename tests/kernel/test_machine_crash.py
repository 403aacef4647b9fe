"""The machine dies and the ends of the journal's files with it: nothing is counted twice, and nothing that is there is lost.

Goal: rows of the moment may be gone, but what the log has stays counted once, what is left in the journal is counted, and
so is each row that is answered after the crash. Method: files are cut at whole records, as a file system leaves them that
wrote not all of its pages; the logs before and after are read as a reader does that knows the newest number of a frame.
"""

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames import codec, records

from .framing import DIGEST, Log, died, segments, some_rows, until_delivered

PARTITIONS = 2


class Broker(Log):
    """Keeps one of its partitions down, if told so."""

    def __init__(self, down: int | None = None) -> None:
        super().__init__()
        self.down = down

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        if partition == self.down:
            await asyncio.sleep(0)
            raise KafkaConnectionError("down")
        await super().send(partition, value, headers)

    def counted(self) -> list[int]:
        return sorted(row.ts_ms for row in self.rows())


def opened(folder: Path, log: Log) -> frames.FrameProducer:
    config = frames.FrameSettings(partitions=PARTITIONS, frame_rows_max=10, flush_ms=1)
    made = frames.FrameProducer(frames.Journal(folder, PARTITIONS, segment_bytes=3_000), log, config)
    made.start()
    return made


def ends(segment: Path) -> list[int]:
    """Where its records end."""
    return [end for _, end in records.sound(segment.read_bytes())]


def kept(folder: Path) -> Iterator[int]:
    """The times of the single rows in the journal."""
    for segment in segments(folder):
        for body, _ in records.sound(segment.read_bytes()):
            if bytes(body[:1]) == b"R":
                yield codec.FIXED.unpack_from(body, 1 + records.ROW.size)[0]


async def delivered_to(log: Broker, folder: Path, start: int) -> set[int]:
    """A producer's whole life, in rounds with pauses; then it dies. Returns the times of rows that were acknowledged."""
    made = opened(folder, log)
    positions = {}
    for at in range(start, start + 60, 15):
        for row in some_rows(15, start=at):
            positions[made.append(row)] = row.ts_ms
        done = [await made.acknowledged(position, 5.0) for position in list(positions) if position % 2 != log.down]
        assert all(done)
    made.append_batch(some_rows(12, start=start + 60), DIGEST[:-4] + start.to_bytes(4, "big"))
    made.append_columns(frames.record_batch(some_rows(12, start=start + 72)))
    for row in some_rows(16, start=start + 84):
        positions[made.append(row)] = row.ts_ms
    await asyncio.sleep(0)
    acknowledged = {time for position, time in positions.items() if await made.acknowledged(position, 0)}
    died(made)
    return acknowledged


async def after(log: Log, folder: Path, start: int) -> list[int]:
    """A successor takes new rows and delivers all; the times of the new ones."""
    successor = opened(folder, log)
    fresh = some_rows(8, start=start)
    for row in fresh:
        successor.append(row)
    await until_delivered(successor)
    await successor.close()
    return [row.ts_ms for row in fresh]


def assert_counted(counted: list[int], *required: set[int]) -> None:
    assert len(set(counted)) == len(counted), "rows are counted twice"
    assert not (set().union(*required) - set(counted)), "rows are lost"


@pytest.mark.promise("GATEWAY-8")
async def test_wherever_the_journal_ends_after_a_crash_of_the_machine_the_rows_after_it_are_counted(
    tmp_path: Path,
) -> None:
    """Method: one journal whose last segment is cut at every record."""
    first = Broker()
    acknowledged = await delivered_to(first, tmp_path / "journal", 0)
    last = segments(tmp_path / "journal")[-1]
    for number, end in enumerate([0, *ends(last)]):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "journal", folder)
        (folder / "lock").unlink()
        (folder / last.name).open("r+b").truncate(end)
        left = set(kept(folder))
        log = Broker()
        log.frames = list(first.frames)
        fresh = await after(log, folder, 1_000)
        assert_counted(log.counted(), acknowledged, left, set(fresh))


@pytest.mark.promise("GATEWAY-8")
@pytest.mark.parametrize("seed", range(6))
async def test_a_journal_whose_segments_all_lost_their_ends_again_and_again_counts_no_row_twice(
    tmp_path: Path, seed: int
) -> None:
    """Method: generations of producers that each die with the machine; in some a partition is down, so segments pile up."""
    draw = random.Random(seed)
    log, acknowledged = Broker(), set[int]()
    for generation in range(3):
        log.down = draw.choice([None, 0, 1])
        acknowledged |= await delivered_to(log, tmp_path, generation * 1_000)
        for segment in segments(tmp_path):
            if draw.random() < 0.7:
                segment.open("r+b").truncate(draw.choice([0, *ends(segment)]))
    log.down = None
    left = set(kept(tmp_path))
    fresh = await after(log, tmp_path, 10_000)
    assert_counted(log.counted(), acknowledged, left, set(fresh))


async def test_a_producer_whose_number_is_gone_with_the_machine_finds_it_in_its_segments(tmp_path: Path) -> None:
    log = Broker(down=0)
    await delivered_to(log, tmp_path, 0)
    (tmp_path / "producer_id").write_text("")
    log.down, left = None, set(kept(tmp_path))
    fresh = await after(log, tmp_path, 1_000)
    assert_counted(log.counted(), left, set(fresh))
    assert len({frame.header.producer_id for _, frame in log.frames}) == 1
