"""Goal: a broker begins with what Java learned in the rehearsal, and starts without it where the file is none. Method: real starts;
what a process has mapped is told by the kernel."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from groundswell.engines import ports, running
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import REHEARSED, Kafka
from groundswell.engines.rehearsal import fits, rehearse


@asynccontextmanager
async def started(home: Path, rehearsed: Path) -> AsyncIterator[str]:
    """What the process of a broker that answers has mapped."""
    kafka = Kafka(Folders.under(home, "kafka"), *ports.draw(2), rehearsed=rehearsed)
    kafka.prepare(lambda line: None)
    child = await running.start(kafka)
    assert child is not None
    try:
        yield Path(f"/proc/{child.pid}/maps").read_text()
    finally:
        await child.stop()


async def test_a_broker_begins_with_what_was_rehearsed(tmp_path: Path) -> None:
    said: list[str] = []
    rehearse(said.append)  # nothing where setup did it
    rehearse(said.append)
    assert len(said) <= 1, "it is rehearsed once"
    async with started(tmp_path, REHEARSED) as mapped:
        assert str(REHEARSED) in mapped


async def test_a_broker_starts_without_a_rehearsal_that_was_cut_short(tmp_path: Path) -> None:
    rehearse(lambda line: None)
    cut = tmp_path / "cut.aot"
    cut.write_bytes(REHEARSED.read_bytes()[: 1 << 24])
    async with started(tmp_path, cut) as mapped:
        assert str(cut) not in mapped


def test_what_cannot_be_kept_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    rehearse(said.append, tmp_path / "file" / "kafka.aot")
    assert "starts take their time" in said[-1]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_is_older_than_the_java_was_anothers(tmp_path: Path) -> None:
    kept, modules = tmp_path / "kafka.aot", tmp_path / "modules"
    modules.touch()
    assert not fits(kept, modules)
    kept.touch()
    os.utime(kept, (1, 1))
    assert not fits(kept, modules)
    os.utime(modules, (0, 0))
    assert fits(kept, modules)
