"""What is appended arrives once, in order, whole; a successor goes on exactly where its predecessor died.

Goal: rows survive the process, and frames keep their names and rows across crashes. The crash is real where it matters
(a child process that is killed); elsewhere a journal that is dropped without closing stands for a dead process.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from groundswell.kernel import errors
from groundswell.kernel.bus import frames

from .framing import DIGEST, Log, died, producer, rows_of, segments, some_rows, until_delivered


async def test_every_row_arrives_once_and_is_acknowledged(tmp_path: Path) -> None:
    """Goal: the plain way."""
    log = Log()
    made = producer(tmp_path, log)
    rows = some_rows(20_000)
    positions = [made.append(row) for row in rows]
    assert all(await asyncio.gather(*(made.acknowledged(p, 10.0) for p in positions)))
    await made.close()
    assert sorted(log.rows()) == sorted(rows)


async def test_an_answer_that_was_lost_makes_a_frame_come_twice_under_one_name(tmp_path: Path) -> None:
    """Goal: a reader can drop the second one."""
    log = Log()
    log.answers_lost = 3
    made = producer(tmp_path, log)
    rows = some_rows(500)
    for row in rows:
        made.append(row)
    await until_delivered(made)
    await made.close()
    assert len(log.rows(once=False)) > 500
    assert sorted(log.rows()) == sorted(rows)


async def test_while_the_log_is_down_rows_wait_and_nobody_is_told_yes(tmp_path: Path) -> None:
    log = Log()
    log.up = False
    made = producer(tmp_path, log)
    position = made.append(some_rows(1)[0])
    assert await made.acknowledged(position, 0.06) is False
    log.up = True
    assert await made.acknowledged(position, 10.0) is True
    await made.close()


@pytest.mark.parametrize("delivered_before", [0, 2])
@pytest.mark.promise("ANALYTICS-2")
async def test_a_successor_cuts_the_same_frames_and_goes_on(tmp_path: Path, delivered_before: int) -> None:
    """Goal: (producer, partition, number) names the same rows before and after a crash.

    Method: the log takes frames but every answer is lost, the process dies, and a successor takes the folder.
    """
    first_log, second_log = Log(), Log()
    first = producer(tmp_path, first_log, frame_rows_max=100)
    rows = some_rows(1_000)
    for row in rows[: 400 * delivered_before // 2]:
        first.append(row)
    await until_delivered(first)
    first_log.answers_lost = 10**6
    for row in rows[400 * delivered_before // 2 :]:
        first.append(row)
    async with asyncio.timeout(5):
        while len(first_log.frames) < 8:
            await asyncio.sleep(0.005)
    died(first)
    second = producer(tmp_path, second_log, frame_rows_max=100)
    second.append(extra := some_rows(1, start=5_000)[0])
    await until_delivered(second)
    await second.close()
    both = Log()
    both.frames = first_log.frames + second_log.frames
    assert sorted(both.rows()) == sorted([*rows, extra])
    bodies: dict[tuple[int, int, int], list[frames.Row]] = {}
    for partition, frame in both.frames:
        name = (frame.header.producer_id, partition, frame.header.frame_seq)
        assert bodies.setdefault(name, rows_of(frame.columns)) == rows_of(frame.columns)


async def test_without_the_journal_a_crash_loses_rows(tmp_path: Path) -> None:
    """Control of the test above: the protection is what makes it pass."""
    first_log, second_log = Log(), Log()
    first_log.up = False
    first = producer(None, first_log)
    for row in some_rows(100):
        first.append(row)
    for task in first._tasks:
        task.cancel()
    second = producer(None, second_log)
    await second.close()
    assert second_log.rows() == []


async def test_segments_are_deleted_when_their_rows_are_acknowledged_and_numbers_go_on(tmp_path: Path) -> None:
    """Goal: the journal stays small, and the names of frames do not start again when old segments are gone."""
    log = Log()
    first = producer(tmp_path, log, segment_bytes=10_000, frame_rows_max=50)
    for row in some_rows(3_000):
        first.append(row)
    await until_delivered(first)
    await first.close()
    assert len(segments(tmp_path)) <= 3
    newest = max(frame.header.frame_seq for _, frame in log.frames)
    second = producer(tmp_path, log, segment_bytes=10_000)
    for row in some_rows(3_000, start=3_000):
        second.append(row)
    await until_delivered(second)
    await second.close()
    assert max(frame.header.frame_seq for _, frame in log.frames) > newest
    assert sorted(log.rows()) == sorted(some_rows(6_000))


@pytest.mark.parametrize("cut", [1, 7, 40])
async def test_a_torn_last_record_is_cut_off(tmp_path: Path, cut: int) -> None:
    """Goal: the row whose write did not finish was never answered; all before it stand."""
    log = Log()
    log.up = False
    first = producer(tmp_path, log)
    rows = some_rows(10)
    for row in rows:
        first.append(row)
    died(first)
    segment = segments(tmp_path)[-1]
    os.truncate(segment, segment.stat().st_size - cut)
    log.up = True
    second = producer(tmp_path, log)
    await until_delivered(second)
    await second.close()
    assert sorted(log.rows()) == sorted(rows[:-1])


async def test_a_full_journal_refuses_rows_and_takes_them_again_later(tmp_path: Path) -> None:
    log = Log()
    log.up = False
    made = producer(tmp_path, log, journal_bytes_max=20_000, segment_bytes=5_000)
    taken: list[frames.Row] = []

    def fill() -> None:
        for row in some_rows(1_000):
            made.append(row)
            taken.append(row)

    with pytest.raises(frames.JournalFull):
        fill()
    assert 100 < len(taken) < 1_000
    log.up = True
    await until_delivered(made)
    taken.append(some_rows(1, start=9_000)[0])
    made.append(taken[-1])
    await made.close()
    assert sorted(log.rows()) == sorted(taken)


async def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    made = producer(tmp_path, Log())
    child = [sys.executable, "-c", _OPEN, str(tmp_path)]
    refused = await asyncio.to_thread(subprocess.run, child, capture_output=True, text=True)
    await made.close()
    assert "JournalBusy" in refused.stderr


_OPEN = """
import sys
from pathlib import Path
from groundswell.kernel.bus.frames import journal
journal.Journal(Path(sys.argv[1]), 4, lock_wait_s=0.2)
"""
_APPEND = """
import asyncio, sys
from pathlib import Path
from groundswell.kernel.bus import frames
async def main():
    class Down:
        async def send(self, *_):
            await asyncio.sleep(3600)
    producer = frames.FrameProducer(frames.Journal(Path(sys.argv[1]), 4), Down(), frames.FrameSettings())
    producer.start()
    n = 0
    while True:
        producer.append(frames.Row(n, "view", 1, n, n))
        print(n, flush=True)
        n += 1
        await asyncio.sleep(0)
asyncio.run(main())
"""


@pytest.mark.promise("GATEWAY-8")
async def test_a_row_that_was_answered_survives_kill_9(tmp_path: Path) -> None:
    """Goal: the journal, not the process, holds a row. Method: a real child, killed in the middle of its work."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _APPEND, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    answered = [int(await child.stdout.readline()) for _ in range(3_000)]
    child.send_signal(signal.SIGKILL)
    answered += [int(line) for line in (await child.stdout.read()).split(b"\n")[:-1]]
    await child.wait()
    log = Log()
    successor = producer(tmp_path, log)
    await until_delivered(successor)
    await successor.close()
    stored = sorted(row.ts_ms for row in log.rows())
    assert stored[: len(answered)] == answered
    assert len(stored) <= len(answered) + 1


@pytest.mark.promise("ANALYTICS-2")
async def test_the_same_batch_again_carries_the_same_digests_over_the_same_rows(tmp_path: Path) -> None:
    """Goal: a writer can drop a batch that a client sent twice, also when the first copy came out of a dead process's journal."""
    first_log, second_log = Log(), Log()
    first_log.up = False
    rows = some_rows(10_000)
    first = producer(tmp_path, first_log)
    first.append_batch(rows, DIGEST)
    died(first)
    second = producer(tmp_path, second_log)
    positions = second.append_batch(rows, DIGEST)
    assert all([await second.acknowledged(p, 10.0) for p in positions])
    await second.close()
    seen: dict[tuple[int, bytes], list[frames.Row]] = {}
    for partition, frame in second_log.frames:
        for group in frame.header.groups:
            got = rows_of(frame.columns.slice(group.first, group.rows))
            assert seen.setdefault((partition, group.digest), got) == got
    assert sorted(row for group_rows in seen.values() for row in group_rows) == sorted(rows)
    assert len(second_log.rows()) == 20_000


async def test_columns_are_cut_into_frames_and_survive_a_crash(tmp_path: Path) -> None:
    """Goal: the columnar way has the same promises, in the same order with rows."""
    log = Log()
    log.up = False
    first = producer(tmp_path, log)
    rows = some_rows(30_000)
    first.append(rows[0])
    first.append_columns(frames.record_batch(rows[1:]))
    died(first)
    log.up = True
    second = producer(tmp_path, log)
    await until_delivered(second)
    await second.close()
    assert sorted(log.rows()) == sorted(rows)


@pytest.mark.parametrize(
    "field",
    [
        ("item", -1),
        ("user", 2**64),
        ("country", 70_000),
        ("props", "x" * 40_000),
        ("kind", "\ud800"),
        ("kind", "k" * 65),
    ],
)
async def test_a_row_out_of_bounds_is_refused_and_changes_nothing(tmp_path: Path, field: tuple[str, Any]) -> None:
    log = Log()
    made = producer(tmp_path, log)
    with pytest.raises(errors.Invalid):
        made.append(some_rows(1)[0]._replace(**dict([field])))
    await made.close()
    assert log.rows() == []
