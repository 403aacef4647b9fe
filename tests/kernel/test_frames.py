"""Frames: what is appended arrives once, in order, whole; a successor goes on exactly where its predecessor died.

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

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.kernel import errors
from groundswell.kernel.bus import frames

DIGEST = b"0123456789abcdef"
OTHERS = [name for name in frames.SCHEMA.names if name != "ts"]


class Log:
    """Stands where the broker is: keeps what was sent, and can refuse, or take a frame and lose the answer."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, frames.Frame]] = []
        self.up = True
        self.answers_lost = 0

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise KafkaConnectionError("down")
        self.frames.append((partition, frames.decode(value, headers)))
        if self.answers_lost:
            self.answers_lost -= 1
            raise KafkaConnectionError("answer lost")

    def rows(self, *, once: bool = True) -> list[frames.Row]:
        """All rows of the log; `once` drops frames that came before, as readers do."""
        marks: dict[tuple[int, int], int] = {}
        found: list[frames.Row] = []
        for partition, frame in self.frames:
            name = (frame.header.producer_id, partition)
            if once and frame.header.frame_seq <= marks.get(name, 0):
                continue
            marks[name] = frame.header.frame_seq
            found += rows_of(frame.columns)
        return found


def rows_of(columns: pa.RecordBatch) -> list[frames.Row]:
    found = []
    for each in columns.to_pylist():
        others: dict[str, Any] = {name: each[name] for name in OTHERS}
        found.append(frames.Row(each["ts"], **(others | {"name": each["name"] or ""})))
    return found


def some_rows(count: int, start: int = 0) -> list[frames.Row]:
    return [
        frames.Row(
            1_700_000_000_000 + n, ("view", "click")[n % 2], 1 + n % 3, n % 17, n * 7919 + 1, props=f'{{"n":{n}}}'
        )
        for n in range(start, start + count)
    ]


def producer(folder: Path | None, log: frames.Sender, **config: int) -> frames.FrameProducer:
    chosen = frames.FrameSettings(**config)  # type: ignore[arg-type]  # only whole numbers are given here
    journal = (
        frames.Journal(folder, 4, bytes_max=chosen.journal_bytes_max, segment_bytes=chosen.segment_bytes)
        if folder
        else frames.Unjournaled(4)
    )
    made = frames.FrameProducer(journal, log, chosen)
    made.start()
    return made


async def until_delivered(made: frames.FrameProducer) -> None:
    async with asyncio.timeout(20):
        while made.waiting_rows:
            await asyncio.sleep(0.005)


def died(made: frames.FrameProducer) -> None:
    """Ends a producer as a crash does: nothing is flushed or closed, only the kernel lets go of the lock."""
    for task in made._tasks:
        task.cancel()
    journal = made._journal
    assert isinstance(journal, frames.Journal)
    os.close(journal._lock)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


texts = st.text(st.characters(codec="utf-8"), max_size=40)
any_row = st.builds(
    frames.Row,
    ts_ms=st.integers(-(2**62), 2**62),
    kind=st.text(st.characters(codec="utf-8"), max_size=16),
    tenant=st.integers(0, 2**64 - 1),
    item=st.integers(0, 2**64 - 1),
    user=st.integers(0, 2**64 - 1),
    network=st.integers(0, 2**32 - 1),
    country=st.integers(0, 2**16 - 1),
    device=st.integers(0, 255),
    flags=st.integers(0, 255),
    value=st.floats(allow_nan=False),
    props=texts,
    name=texts,
)


@given(st.lists(any_row, min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_rows_come_out_of_a_frame_as_they_went_in(rows: list[frames.Row]) -> None:
    """Goal: no field of any row is changed by packing, dictionaries or compression."""
    columns = frames.record_batch(rows)
    header = frames.Header(7, 1, len(rows), min(r.ts_ms for r in rows), max(r.ts_ms for r in rows))
    frame = frames.decode(frames.encode(columns), header.to_record())
    assert rows_of(frame.columns) == rows
    assert frame.header == header


def test_the_partition_of_a_row_and_of_its_column_is_the_same() -> None:
    """Goal: rows that come one by one and as columns meet in the same partition, so distinct users add up."""
    users = np.random.default_rng(5).integers(0, 2**64 - 1, 1000, dtype=np.uint64)
    tenants = np.arange(1000, dtype=np.uint64)
    columns = frames.partitions_of(tenants, users, 4)
    assert [frames.partition_of(int(t), int(u), 4) for t, u in zip(tenants, users, strict=True)] == columns.tolist()
    assert min(np.bincount(columns.astype(int))) > 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", (0, "")), ("42", (42, "")), ("9223372036854775807", (2**63 - 1, ""))],
)
def test_an_id_of_the_platform_is_its_own_item(text: str, expected: tuple[int, str]) -> None:
    assert frames.item_id(text) == expected


@pytest.mark.parametrize("text", ["007", "9223372036854775808", "/pricing", "-1", "٣"])
def test_any_other_text_is_hashed_and_keeps_its_name(text: str) -> None:
    item, name = frames.item_id(text)
    assert item >= frames.TOP_BIT
    assert name == text


def sound() -> tuple[bytes, dict[str, bytes]]:
    rows = some_rows(10)
    header = frames.Header(1, 1, 10, rows[0].ts_ms, rows[-1].ts_ms)
    return frames.encode(frames.record_batch(rows)), dict(header.to_record())


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("n", b"11"),
        ("n", b"many"),
        ("n", b"0"),
        ("n", b"9000"),
        ("schema", b"2"),
        ("producer_id", b""),
        ("producer_id", b"-1"),
        ("frame_seq", b"0"),
        ("frame_seq", b"18446744073709551616"),
        ("batches", b"short"),
        ("batches", DIGEST + (5).to_bytes(4, "little") + (6).to_bytes(4, "little")),
    ],
)
@pytest.mark.promise("ANALYTICS-2")
def test_a_frame_whose_headers_do_not_fit_is_corrupt(header: str, value: bytes) -> None:
    """Goal: what cannot be counted is refused with a reason, never counted wrongly."""
    body, record = sound()
    with pytest.raises(frames.CorruptFrame):
        frames.decode(body, (record | {header: value}).items())


@pytest.mark.parametrize("body", [b"", b"not arrow", sound()[0][:200], sound()[0][:-300]])
def test_a_frame_whose_body_is_damaged_is_corrupt(body: bytes) -> None:
    with pytest.raises(frames.CorruptFrame) as caught:
        frames.decode(body, sound()[1].items())
    assert caught.value.rows == 10


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
journal.LOCK_WAIT_S = 0.2
journal.Journal(Path(sys.argv[1]), 4)
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
