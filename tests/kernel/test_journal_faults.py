"""The disk refuses for a while: each row that was answered `spooled` is in one frame all the same, and no other row is.

Goal: the invariant of frames across a full disk and a lack of descriptors. Method: `disk_faults`, a child process whose
kernel refuses, and that is killed in the end; a successor takes its journal, and the logs of both are read as readers do.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from groundswell.kernel.bus import frames

from . import disk_faults
from .framing import Log, rows_of, until_delivered

ROOT = Path(__file__).parents[2]


async def ran(scenario: str, folder: Path) -> tuple[list[int], list[tuple[int, int, list[int]]]]:
    """(times of rows that were answered, frames that were sent) of a child."""
    command = [sys.executable, "-m", disk_faults.__name__, scenario, str(folder)]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        out, err = await child.communicate()
    assert child.returncode == -signal.SIGKILL, err.decode()
    told = json.loads(out)
    return told["answered"], [(partition, seq, times) for partition, seq, times in told["sent"]]


def opened(folder: Path, log: frames.Sender, partitions: int = disk_faults.PARTITIONS) -> frames.FrameProducer:
    made = frames.FrameProducer(
        frames.Journal(folder, partitions), log, frames.FrameSettings(partitions=partitions, flush_ms=0)
    )
    made.start()
    return made


async def left(folder: Path, *, partitions: int = disk_faults.PARTITIONS) -> list[tuple[int, int, list[int]]]:
    """The frames that a successor sends."""
    log = Log()
    successor = opened(folder, log, partitions)
    await until_delivered(successor)
    await successor.close()
    return named(log)


def named(log: Log) -> list[tuple[int, int, list[int]]]:
    return [(partition, f.header.frame_seq, [row.ts_ms for row in rows_of(f.columns)]) for partition, f in log.frames]


def counted(sent: Sequence[tuple[int, int, list[int]]]) -> list[int]:
    """The rows that a reader counts; a frame has the same rows however often it came."""
    known: dict[tuple[int, int], list[int]] = {}
    for partition, seq, times in sent:
        assert known.setdefault((partition, seq), times) == times, f"frame {seq} of partition {partition} changed"
    return sorted(time for times in known.values() for time in times)


@pytest.mark.promise("GATEWAY-8")
@pytest.mark.parametrize("scenario", sorted(set(disk_faults.SCENARIOS) - {"start"}))
async def test_what_was_answered_while_the_disk_refused_is_counted_once_and_nothing_else(
    tmp_path: Path, scenario: str
) -> None:
    answered, sent = await ran(scenario, tmp_path)
    assert counted(sent + await left(tmp_path)) == answered


@pytest.mark.promise("GATEWAY-8")
async def test_a_successor_that_starts_on_a_full_disk_delivers_what_was_left_and_takes_rows_when_there_is_room(
    tmp_path: Path,
) -> None:
    before, _ = await ran("closing", tmp_path)
    answered, sent = await ran("start", tmp_path)
    assert counted(sent + await left(tmp_path)) == sorted(before + answered)
