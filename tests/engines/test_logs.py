"""Logs keep within their bound while their processes run, and whoever follows one goes on with it."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Callable
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
import itertools, pathlib, signal, sys, time
for number in itertools.count():
    print(f"line {number:090}", flush=True)
    time.sleep(0.0001)
    if pathlib.Path(sys.argv[1]).exists():
        pathlib.Path(sys.argv[1]).unlink()
        signal.pause()
"""
COPYING = """
import pathlib, resource, sys
from groundswell.engines import children
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
children.bound_log(pathlib.Path(sys.argv[1]), size)
"""


async def test_the_log_of_a_process_that_runs_keeps_within_its_bound_and_the_one_before_is_kept(tmp_path: Path) -> None:
    """Method: a program that talks without end is kept until its log has begun anew twice, and has said enough then."""
    log, older, enough = tmp_path / "one.log", tmp_path / "one.old.log", tmp_path / "enough"
    described = ProcessState("one", "process", "stopped", 0, None, None, 0, str(log), str(tmp_path))
    launch = Launch([sys.executable, "-c", TALKING, str(enough)], log, tmp_path, log_bytes_max=BYTES_MAX)

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
        enough.touch()
        async with asyncio.timeout(WAIT_S_MAX):
            while enough.exists() or log.stat().st_size > BYTES_MAX:
                await asyncio.sleep(0.01)
        assert older.stat().st_size == BYTES_MAX
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.parametrize("size", [BYTES_MAX, BYTES_MAX + 1, 3 * children.COPY_BYTES])
def test_a_log_is_set_aside_only_above_its_bound_and_no_more_of_it_than_that(tmp_path: Path, size: int) -> None:
    log, older, said = tmp_path / "one.log", tmp_path / "one.old.log", secrets.token_bytes(size)
    bytes_max = max(BYTES_MAX, size - 1_000)
    log.write_bytes(said)
    older.write_bytes(b"of yesterday")
    children.bound_log(log, bytes_max)
    kept = (said, b"of yesterday") if size == BYTES_MAX else (b"", said[-bytes_max:])
    assert (log.read_bytes(), older.read_bytes()) == kept


def test_a_log_that_is_found_too_big_at_a_start_is_set_aside_without_a_copy(tmp_path: Path) -> None:
    """Goal: what a version without a bound left takes neither time nor room. Method: the file is the same one afterwards."""
    log, older = tmp_path / "one.log", tmp_path / "one.old.log"
    log.write_bytes(bytes(BYTES_MAX + 1))
    before = log.stat()
    child = children.Child(Launch(["true"], log, tmp_path, log_bytes_max=BYTES_MAX))
    asyncio.run(child.wait())
    assert (older.stat().st_ino, older.stat().st_size, log.stat().st_size) == (before.st_ino, BYTES_MAX + 1, 0)


def test_a_copy_for_which_there_is_no_room_is_taken_back_and_the_log_keeps_within_its_bound(tmp_path: Path) -> None:
    """Method: a process that may write files of half that size alone."""
    log, older = tmp_path / "one.log", tmp_path / "one.old.log"
    log.write_bytes(bytes(BYTES_MAX + 1))
    subprocess.run([sys.executable, "-c", COPYING, str(log), str(BYTES_MAX)], check=True)
    assert (log.stat().st_size, older.exists()) == (0, False)


def test_a_log_that_can_not_be_copied_at_all_keeps_within_its_bound(tmp_path: Path) -> None:
    """A folder lies where the older log belongs."""
    log = tmp_path / "one.log"
    log.write_bytes(bytes(BYTES_MAX + 1))
    (tmp_path / "one.old.log").mkdir()
    children.bound_log(log, BYTES_MAX)
    assert log.stat().st_size == 0


@pytest.mark.parametrize("set_aside", [children.bound_log, children.set_log_aside])
async def test_who_follows_a_log_sees_what_is_added_after_it_was_set_aside(
    tmp_path: Path, set_aside: Callable[[Path, int], None]
) -> None:
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
            set_aside(log, 1_000)
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
