"""Logs keep within their bound while their processes run, and whoever follows one goes on with it."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from groundswell.engines import children
from groundswell.engines.children import Launch
from groundswell.engines.home import Home
from groundswell.engines.keeper import Keeper
from groundswell.engines.state import ProcessState

from .homes import WAIT_S_MAX

BYTES_MAX = 100_000
TALKING = """
import itertools, time
for number in itertools.count():
    print(f"line {number:090}", flush=True)
    time.sleep(0.0001)
"""


async def test_the_log_of_a_process_that_runs_keeps_within_its_bound_and_the_one_before_is_kept(tmp_path: Path) -> None:
    """Method: a program that never stops talking is kept until its log has begun anew twice."""
    log, older = tmp_path / "one.log", tmp_path / "one.old.log"
    described = ProcessState("one", "process", "stopped", 0, None, None, 0, str(log), str(tmp_path))
    launch = Launch([sys.executable, "-c", TALKING], log, tmp_path, log_bytes_max=BYTES_MAX)

    async def ready() -> bool:
        return False  # so that it is looked at often

    keeper = Keeper(described, lambda settings: launch, ready, lambda line: None)
    keeper.want(True)
    keeping = asyncio.create_task(keeper.run())
    try:
        begun: set[bytes] = set()
        async with asyncio.timeout(WAIT_S_MAX):
            while len(begun) < 2:
                await asyncio.sleep(0.01)
                with suppress(FileNotFoundError):
                    begun |= {older.read_bytes()[:100]} - {b""}
        pid = keeper.snapshot().pid
        assert keeper.restarts == 0, "nobody had to end for that"
        async with asyncio.timeout(WAIT_S_MAX):
            while not children.log_end(log, 1).startswith("line "):
                await asyncio.sleep(0.01)
        assert keeper.snapshot().pid == pid
        assert not log.read_bytes().startswith(b"\0"), "who writes goes on at the end"
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.parametrize("size", [BYTES_MAX, BYTES_MAX + 1])
def test_a_log_is_set_aside_only_above_its_bound(tmp_path: Path, size: int) -> None:
    log, older = tmp_path / "one.log", tmp_path / "one.old.log"
    log.write_bytes(bytes(size))
    older.write_bytes(b"of yesterday")
    children.bound_log(log, BYTES_MAX)
    assert (log.stat().st_size, older.stat().st_size) == ((size, 12) if size == BYTES_MAX else (0, size))


def test_a_log_that_can_not_be_copied_stays_as_it_was_and_ends_nothing(tmp_path: Path) -> None:
    """A folder lies where the older log belongs."""
    log = tmp_path / "one.log"
    log.write_bytes(bytes(BYTES_MAX + 1))
    (tmp_path / "one.old.log").mkdir()
    children.bound_log(log, BYTES_MAX)
    assert log.stat().st_size == BYTES_MAX + 1


async def test_who_follows_a_log_sees_what_is_added_after_it_was_set_aside(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.open()
    log = home.logs / "one.log"
    log.write_text("before\n" * 1_000)
    command = [sys.executable, "-m", "groundswell", "logs", f"--home={home.path}", "one", "--follow"]
    following = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert following.stdout is not None
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            assert await following.stdout.readline() == b"before\n"
            await _added(log, following.stdout, "while it grows")
            children.bound_log(log, 1_000)
            await _added(log, following.stdout, "after it was set aside: ä")
    finally:
        following.kill()
        await following.wait()


async def _added(log: Path, shown: asyncio.StreamReader, line: str) -> None:
    """Adds the line until it is shown: the one who follows may not have begun."""

    async def add() -> None:
        while True:
            with log.open("a") as stream:
                stream.write(f"{line}\n")
            await asyncio.sleep(0.2)

    adding = asyncio.create_task(add())
    try:
        while (await shown.readline()).decode() != f"{line}\n":
            pass
    finally:
        adding.cancel()
