"""The child of `test_journal_faults`: a producer whose disk refuses for a while, and that dies by kill -9 in the end.

`python -m tests.kernel.disk_faults SCENARIO FOLDER` prints what it answered and what it sent. Limits of the process make
the kernel refuse: no file may grow beyond a size, no descriptor may be opened.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from groundswell.kernel.bus import frames
from tests.kernel.framing import Log, rows_of, some_rows, until_delivered
from tests.kernel.test_resources import until

PARTITIONS = 2
SEGMENT_BYTES = 4_000


class Gate(Log):
    """A log that lets frames through while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.opened.set()

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        await self.opened.wait()
        await super().send(partition, value, headers)


class Child:
    """A producer in `folder`, the log it sends to, and the rows that it took."""

    def __init__(self, folder: Path, **config: int) -> None:
        self.folder, self.log = folder, Gate()
        chosen = frames.FrameSettings(partitions=PARTITIONS, **config)  # type: ignore[arg-type]  # whole numbers only
        journal = frames.Journal(folder, PARTITIONS, segment_bytes=chosen.segment_bytes)
        self.producer = frames.FrameProducer(journal, self.log, chosen)
        self.producer.start()
        self.answered: list[int] = []
        self._next = 0

    def append(self, count: int = 1) -> int:
        """Appends new rows; returns how many were taken."""
        taken = 0
        for row in some_rows(count, start=self._next):
            self._next += 1
            with suppress(frames.JournalFull):
                self.producer.append(row)
                self.answered.append(row.ts_ms)
                taken += 1
        return taken

    @property
    def next_row_bytes(self) -> int:
        """What the next row's record takes: its head, its kind of record, the fixed part and the texts."""
        row = some_rows(1, start=self._next)[0]
        return 8 + 1 + 7 + 48 + len(row.kind) + len(row.props)

    @property
    def segment_bytes(self) -> int:
        """Size of the newest segment."""
        return max(self.folder.glob("*.log")).stat().st_size

    async def delivered(self) -> None:
        await until_delivered(self.producer)

    async def announced(self) -> None:
        """Waits until each partition has a frame in flight and no row beside it."""
        places = [lane.place for lane in self.producer._lanes]
        await until(lambda: all(place.announced and not len(place.open) for place in places))

    def dies(self) -> None:
        """Tells what it answered and sent, and is killed."""
        sent = [
            (partition, frame.header.frame_seq, [row.ts_ms for row in rows_of(frame.columns)])
            for partition, frame in self.log.frames
        ]
        print(json.dumps({"answered": self.answered, "sent": sent}), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def no_file_beyond(size_bytes: int) -> AbstractContextManager[None]:
    return limited(resource.RLIMIT_FSIZE, size_bytes)


def no_descriptor_more() -> AbstractContextManager[None]:
    return limited(resource.RLIMIT_NOFILE, 0)


class Told(logging.Handler):
    """Hears one sentence of the log."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self._sentence = sentence
        self.heard = False
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if self._sentence in record.getMessage():
            self.heard = True


async def border(folder: Path) -> None:
    """The border of a frame cannot be written for a moment."""
    child, told = Child(folder), Told("cannot be announced yet")
    child.append(20)
    with no_file_beyond(child.segment_bytes):
        await until(lambda: told.heard)
        assert not child.log.frames, "what was not announced was sent"
    child.append(20)
    await child.delivered()
    assert len(child.log.rows()) == len(child.answered) == 40
    child.dies()


async def acknowledgement(folder: Path) -> None:
    """What the log has cannot be noted for a moment."""
    child = Child(folder)
    child.log.opened.clear()
    child.append(20)
    await child.announced()
    with no_file_beyond(child.segment_bytes):
        child.log.opened.set()
        await child.delivered()
    child.append(20)
    await child.delivered()
    child.dies()


async def closing(folder: Path) -> None:
    """The process is told to end while its disk is full."""
    child = Child(folder, flush_ms=5_000)
    child.append(20)
    with no_file_beyond(child.segment_bytes):
        await child.producer.close(0.1)
    child.dies()


async def full_frame(folder: Path) -> None:
    """The disk has room for the row that fills a frame, but not for all of the frame's border. All answers are lost."""
    child = Child(folder, frame_rows_max=10, flush_ms=5_000)
    child.log.answers_lost = sys.maxsize
    taken = 0
    for _ in range(60):
        with no_file_beyond(child.segment_bytes + child.next_row_bytes + 5):
            taken += child.append()
            await asyncio.sleep(0)
    assert 0 < taken < 60
    child.append(25)
    await until(lambda: len({partition for partition, _ in child.log.frames}) == PARTITIONS)
    child.dies()


async def renewal(folder: Path, refusing: Callable[[], AbstractContextManager[None]]) -> None:
    """The next segment cannot be begun for a moment. Afterwards the log is away, and earlier segments are deleted."""
    child = Child(folder, segment_bytes=SEGMENT_BYTES)
    child.log.opened.clear()
    while child.segment_bytes < SEGMENT_BYTES - 200:
        child.append()
    await child.announced()
    while child.segment_bytes < SEGMENT_BYTES:
        child.append()
    with refusing():
        child.append(100)
        child.log.opened.set()
        await until(lambda: all(lane.acknowledged_rows for lane in child.producer._lanes))
    with (folder / "other").open("wb") as other:
        child.append(20)
        await child.delivered()
        child.append(100)
        await child.delivered()
        child.log.opened.clear()
        child.append(90)
        assert os.fstat(other.fileno()).st_size == 0, "rows landed in a foreign file"
        child.dies()


async def no_room_for_a_segment(folder: Path) -> None:
    await renewal(folder, lambda: no_file_beyond(10))


async def no_descriptor_for_a_segment(folder: Path) -> None:
    await renewal(folder, no_descriptor_more)


async def start(folder: Path) -> None:
    """The disk is full when the process starts; a predecessor left rows."""
    with no_file_beyond(10):
        child = Child(folder)
        assert child.append() == 0
        await child.delivered()
        assert child.log.frames
    child.append(20)
    await child.delivered()
    child.append(20)
    child.dies()


SCENARIOS: dict[str, Callable[[Path], Coroutine[Any, Any, None]]] = {
    scenario.__name__: scenario
    for scenario in (
        border,
        acknowledgement,
        closing,
        full_frame,
        no_room_for_a_segment,
        no_descriptor_for_a_segment,
        start,
    )
}

if __name__ == "__main__":
    asyncio.run(SCENARIOS[sys.argv[1]](Path(sys.argv[2])))
