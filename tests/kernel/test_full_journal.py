"""A successor of a long outage: a journal full of rows costs it neither its memory nor its event loop.

Goal: the process comes back within the limits of any other start. Method: a real journal of 320,000 rows in many segments,
left by a producer that died; its successor is a child process whose peak of memory is read, and all is compared in the log.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundswell.kernel.bus import frames

from .framing import DIGEST, Log, died, producer, segments, some_rows, until_delivered

ROOT = Path(__file__).parents[2]
SEGMENT_BYTES = 1 << 20
ROWS = 320_000
GROWTH_BYTES_MAX = 64 << 20
"""By which a long outage's replay may exceed a short one's. As objects its rows would take nearly three times as much."""


class Counts:
    """Stands where the broker is, and keeps nothing but how many rows came."""

    rows = 0

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        await asyncio.sleep(0)
        self.rows += int(dict(headers)["n"])


@contextmanager
def reading_is_refused() -> Iterator[None]:
    """No file can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def outage(folder: Path, rows: int, **config: int) -> None:
    """A producer takes rows while the log is away, and dies."""
    log = Log()
    log.up = False
    made = producer(folder, log, segment_bytes=SEGMENT_BYTES, **config)
    for row in some_rows(rows):
        made.append(row)
    died(made)


async def grown(folder: Path) -> None:
    """The child: delivers both journals; prints how many rows each had, and the peak of memory behind each."""
    told = []
    for name in ("short", "long"):
        log = Counts()
        made = producer(folder / name, log, segment_bytes=SEGMENT_BYTES)
        await until_delivered(made)
        await made.close()
        told.append((log.rows, peak_bytes()))
    print(json.dumps(told))


def peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` of a child begins with what its parent had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


@pytest.mark.promise("GATEWAY-8")
async def test_a_successor_delivers_a_full_journal_in_little_memory(tmp_path: Path) -> None:
    """Method: after a short outage's journal, which takes what any replay takes, a long one's may add next to nothing."""
    await outage(tmp_path / "short", ROWS // 8)
    await outage(tmp_path / "long", ROWS)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    (short_rows, before), (long_rows, after) = json.loads(out)
    assert (short_rows, long_rows) == (ROWS // 8, ROWS)
    assert after - before < GROWTH_BYTES_MAX


async def test_whatever_else_a_process_does_goes_on_while_a_journal_is_read(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    """Goal: its health answers. Method: nothing is awaited but the start, and another task gets its turns."""
    await outage(tmp_path, 20_000)
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(turning())
    config = frames.FrameSettings(topic=topic, segment_bytes=SEGMENT_BYTES)
    async with frames.opened(kafka_address, tmp_path, config) as made:
        other.cancel()
        assert turns > 100
        await until_delivered(made)


@pytest.mark.promise("GATEWAY-8")
async def test_rows_that_come_during_the_replay_stay_behind_it_and_within_the_bound(tmp_path: Path) -> None:
    """Goal: what is left counts towards the journal's bound, and new rows are taken as it shrinks."""
    await outage(tmp_path, 30_000)
    bytes_max = sum(segment.stat().st_size for segment in segments(tmp_path))
    log = Log()
    log.up = False
    made = producer(tmp_path, log, segment_bytes=SEGMENT_BYTES, journal_bytes_max=bytes_max)
    fresh = some_rows(1_000, start=50_000)
    with pytest.raises(frames.JournalFull):
        made.append(fresh[0])
    log.up = True
    async with asyncio.timeout(20):
        while len(segments(tmp_path)) > 2:
            await asyncio.sleep(0.001)
    for row in fresh:
        made.append(row)
    await until_delivered(made)
    await made.close()
    for partition in range(4):
        seqs = [frame.header.frame_seq for at, frame in log.frames if at == partition]
        assert seqs == sorted(set(seqs))
    assert sorted(log.rows()) == some_rows(30_000) + fresh


@pytest.mark.promise("GATEWAY-8")
async def test_a_frame_that_cannot_be_read_for_a_moment_is_sent_whole_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Method: a journal of rows, batches and columns; no descriptor is left when the successor begins to deliver."""
    log = Log()
    log.up = False
    rows = some_rows(9_000)
    first = producer(tmp_path, log, segment_bytes=100_000)
    for row in rows[:3_000]:
        first.append(row)
    first.append_batch(rows[3_000:6_000], DIGEST)
    first.append_columns(frames.record_batch(rows[6_000:]))
    died(first)
    log.up = True
    await asyncio.to_thread(len, rows)  # the thread that reads takes descriptors of its own, once
    second = producer(tmp_path, log)
    with reading_is_refused():
        async with asyncio.timeout(20):
            while "cannot be read yet" not in caplog.text:
                await asyncio.sleep(0.001)
        assert not log.frames
    await until_delivered(second)
    await second.close()
    assert sorted(log.rows()) == rows
    assert sum(group.rows for _, frame in log.frames for group in frame.header.groups) == 3_000


if __name__ == "__main__":
    asyncio.run(grown(Path(sys.argv[1])))
