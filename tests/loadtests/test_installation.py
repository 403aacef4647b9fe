"""What the drills signal: the processes that the supervisor recorded, and nobody else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtests.platform.installation import Installation, PlatformFailed


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def recorded(home: Path, pid: int, started_s: float) -> Installation:
    """A home whose supervisor says that `pid` began at `started_s`."""
    told = {
        "name": "links",
        "state": "up",
        "pid": pid,
        "started": started_s,
        "restarts": 0,
        "settings": {},
        "modules": [],
    }
    return written(home, os.getpid(), psutil.Process().create_time(), [told])


def written(home: Path, pid: int, started_s: float, processes: list[dict[str, object]]) -> Installation:
    """A home whose supervisor is that process."""
    told = {"topology": "each", "supervisor": {"pid": pid, "started": started_s}, "processes": processes}
    (home / "state.json").write_text(json.dumps(told))
    return Installation(home)


def test_a_process_is_known_after_the_clock_was_set_across_a_second(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    """The time of the boot is told in whole seconds: a clock set by a millisecond moves every start time by one."""
    installation = recorded(tmp_path, child.pid, psutil.Process(child.pid).create_time() - 1)
    assert installation.signal("links", signal.SIGKILL) == child.pid
    assert child.wait(5) == -signal.SIGKILL


def test_another_process_of_that_number_is_left_alone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    installation = recorded(tmp_path, child.pid, time.time() - 100)
    with pytest.raises(PlatformFailed, match="nothing to signal"):
        installation.signal("links", signal.SIGKILL)
    assert child.poll() is None


def test_what_a_killed_supervisor_has_left_written_is_no_platform_that_runs(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    """Reaped or not. Else a demo waits for it, and tells at the end how to stop it."""
    installation = written(tmp_path, child.pid, psutil.Process(child.pid).create_time(), [])
    assert installation.topology == "each"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert installation.topology is None
    child.wait()
    assert installation.topology is None
    assert installation.processes() == {}
    with pytest.raises(PlatformFailed, match=r"Nothing in .* holds 'kafka'"):
        installation.addresses("kafka")


def test_another_process_of_a_supervisors_number_is_no_platform_that_runs(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    """As after a power cut."""
    assert written(tmp_path, child.pid, time.time() - 100, []).topology is None
