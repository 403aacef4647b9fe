"""Frames under a test's hand: a log that keeps what was sent, producers on it, and their death.

A journal that is dropped without closing stands for a dead process, but where the crash itself is the question.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
from aiokafka.errors import KafkaConnectionError

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
