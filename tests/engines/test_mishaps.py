"""Goal: what goes wrong beside the platform ends nothing of it, and what goes wrong in it is told and leaves nothing behind.

Method: real supervisors over tiny programs, on a device that is always full, over a folder where a file belongs, behind a process that
does not die, and with somebody who fails while he is told.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from groundswell.engines import children
from groundswell.engines.children import Launch
from groundswell.engines.errors import SupervisorError
from groundswell.engines.home import Home
from groundswell.engines.keeper import Keeper
from groundswell.engines.platform import Platform as Kept
from groundswell.engines.state import ProcessState, read
from groundswell.engines.supervisor import Supervisor
from groundswell.engines.topology import load
from tests.engines.homes import TOPOLOGY, WAIT_S_MAX, Platform, environment, gone, wait_for

FULL = Path("/dev/full")
"""Takes nothing: no space left on device."""


def is_up(platform: Platform) -> bool:
    found = read(platform.home / "state.json")
    return found is not None and len(found.processes) == 3 and all(each.state == "ready" for each in found.processes)


def answers(platform: Platform, name: str) -> bool:
    try:
        return bool(platform.settings(name))
    except OSError:
        return False


def children_now() -> set[int]:
    """Those of this process that run."""
    return {each.pid for each in psutil.Process().children() if not gone(each.pid)}


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_disk_that_is_full_ends_nothing_that_runs(platform: Platform) -> None:
    """Neither the log nor state.json takes a word: a folder lies where its next version is written."""
    command = [sys.executable, "-m", "groundswell", "supervise", f"--home={platform.home}", "--port=0"]
    command += ["--topology=each", f"--topology-file={TOPOLOGY}"]
    with FULL.open("wb") as full, subprocess.Popen(command, stdout=full, stderr=full, env=environment()) as supervisor:
        try:
            wait_for(lambda: is_up(platform))
            pids, blocking = platform.pids(), platform.home / "state.new"
            blocking.mkdir()
            os.kill(platform.pid("links"), signal.SIGKILL)
            wait_for(lambda: gone(platform.pid("links")))
            wait_for(lambda: answers(platform, "links"))
            assert supervisor.poll() is None
            assert not gone(platform.pid("gateway"))
            blocking.rmdir()
            assert platform.run("restart", "gateway").returncode == 0
            assert platform.process("links").restarts == 1, "what was missed is told once there is room"
            pids += platform.pids()
            assert platform.run("down").returncode == 0
            wait_for(lambda: all(gone(pid) for pid in pids))
        finally:
            supervisor.kill()


async def test_a_keeper_that_an_error_ended_is_told_by_name_and_the_platform_stops(tmp_path: Path) -> None:
    """It is no stop that somebody asked for, and nobody waits for it: the one who asks for the end is answered."""
    home, told, before = Home(tmp_path / "home"), list[str](), children_now()
    home.open()

    def say(line: str) -> None:
        told.append(line)
        if line.startswith("links: ended"):
            raise ValueError("not a word of that")

    def kill_links() -> None:
        found = read(home.state_file)
        assert found is not None
        os.kill(next(each.pid or 0 for each in found.processes if each.name == "links"), signal.SIGKILL)

    kept = Kept(home, load("each", TOPOLOGY), 0, environment())
    async with asyncio.timeout(WAIT_S_MAX):
        with pytest.raises(SupervisorError, match=r"links cannot be kept any longer, .*not a word of that"):
            await Supervisor(home, kept, say, kill_links).run()
    assert told[-1] == "everything is stopped"
    wait_for(lambda: children_now() <= before)


async def test_a_keeper_that_an_error_ended_counts_as_stopped_and_its_process_is_gone(tmp_path: Path) -> None:
    described = ProcessState("one", "process", "stopped", 0, None, None, 0, str(tmp_path / "log"), str(tmp_path))
    launch = Launch([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", tmp_path)
    pids = []

    async def ready() -> bool:
        pids.append(keeper.snapshot().pid or 0)
        raise ValueError("nobody knows")

    keeper = Keeper(described, lambda settings: launch, ready, lambda line: None)
    keeper.want(True)
    with pytest.raises(ValueError, match="nobody knows"):
        await keeper.run()
    async with asyncio.timeout(WAIT_S_MAX):
        await keeper.until("stopped")
    assert not keeper.wanted
    wait_for(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize("left", ["", '{"internal_key": "0', "[]"])
@pytest.mark.parametrize(
    ("name", "remedy"), [("secrets.json", "put it back from a backup"), ("ports.json", "Remove it")]
)
def test_a_file_of_the_home_that_a_loss_of_power_has_cut_is_named_with_what_to_do(
    tmp_path: Path, name: str, remedy: str, left: str
) -> None:
    home = Home(tmp_path / "home")
    home.open()
    home.settle_ports(["kafka"])
    (home.path / name).write_text(left)
    with pytest.raises(SupervisorError, match=f"{name} is damaged") as told:
        home.secrets() if name == "secrets.json" else home.settle_ports(["kafka"])
    assert remedy in str(told.value)


@pytest.mark.parametrize("left", ["", '{"version": 1, "topo', '{"version": 1}', "[]"])
def test_a_state_or_a_version_that_is_cut_counts_as_none(tmp_path: Path, left: str) -> None:
    home = Home(tmp_path / "home")
    home.open()
    for each in (home.state_file, home.path / "version"):
        each.write_text(left)
    home.open()
    assert (home.path / "version").read_text() == "1\n"
    assert read(home.state_file) is None


def test_an_up_that_fails_leaves_no_supervisor_behind(platform: Platform) -> None:
    """Method: what an earlier supervisor is said to have left leads no group, so it is not ended, and the next one never listens."""
    assert platform.up().returncode == 0
    supervisor = platform.pids()[0]
    recorded = (platform.home / "state.json").read_text()
    links = platform.process("links")
    assert platform.run("down").returncode == 0
    assert gone(supervisor)
    with subprocess.Popen(["sleep", "600"]) as endless:
        try:
            started = children.start_time_s(endless.pid)
            recorded = recorded.replace(f'"pid": {links.pid}', f'"pid": {endless.pid}')
            recorded = recorded.replace(f'"started": {links.started}', f'"started": {started}')
            (platform.home / "state.json").write_text(recorded)
            done = platform.up()
            assert done.returncode == 1
            assert "The supervisor did not start" in done.stderr
            assert not Home(platform.home).running()
            assert endless.poll() is None
        finally:
            endless.kill()
