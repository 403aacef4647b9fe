"""Whatever becomes of a control plane and of who asked for it: no process and no folder stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from groundswell.engines import ports
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ROOT, ControlPlane, NotStarted, running
from tests.cluster.forms import slow

END_S_MAX = 30.0
pytestmark = pytest.mark.usefixtures("programs")


def left_behind(folder: Path, plane: ControlPlane) -> list[object]:
    """What is left of a control plane in `folder` once its processes have had time to end."""
    processes = [_process(pid) for pid in (plane.keeper, *plane.pids.values())]
    _, alive = psutil.wait_procs([each for each in processes if each], END_S_MAX)
    return [*alive, *folder.iterdir()]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


async def _ended(child: int) -> bool:
    """Whether a child has ended; leaves its exit code to who started it."""
    return psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def _mentioning(folder: Path) -> list[psutil.Process]:
    """Processes that work in `folder`."""
    return [each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or [])]


@slow
def test_it_ends_with_the_test_that_fails(tmp_path: Path) -> None:
    held: list[ControlPlane] = []

    def fail() -> None:
        with running("--nodes=1", temporary=tmp_path) as plane:
            held.append(plane)
            assert list(tmp_path.iterdir()) == [plane.folder]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(held[0].pids) == 5
    assert not left_behind(tmp_path, held[0])


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", ports.draw(1)[0])) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotStarted) as failure, running(f"--api-port={port}", temporary=tmp_path):
            pass
    assert "api-server ended with code 1 while it started" in str(failure.value)
    assert "address already in use" in str(failure.value)
    assert "Traceback" not in str(failure.value)
    assert not [*_mentioning(tmp_path), *tmp_path.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@slow
def test_it_ends_with_a_session_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    program = f"""
import pathlib, signal
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import running
with running("--nodes=1", temporary=pathlib.Path({str(tmp_path)!r})) as plane:
    print(plane.keeper, *plane.pids.values(), flush=True)
    signal.pause()
"""
    session = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert session.stdout
    processes = [psutil.Process(int(pid)) for pid in session.stdout.readline().split()]
    assert len(processes) == 6
    session.send_signal(number)
    assert session.wait() == -number
    _, alive = psutil.wait_procs(processes, END_S_MAX)
    assert not [*alive, *tmp_path.iterdir()]


@slow
def test_it_ends_when_one_of_its_processes_does(tmp_path: Path) -> None:
    held: list[ControlPlane] = []

    def lose() -> None:
        with running("--nodes=1", temporary=tmp_path) as plane:
            held.append(plane)
            os.kill(plane.pids["etcd"], signal.SIGKILL)
            asyncio.run(until(lambda: _ended(plane.keeper)))

    with pytest.raises(NotStarted, match="etcd ended with code -9"):
        lose()
    assert not left_behind(tmp_path, held[0])


@slow
def test_a_killed_keeper_leaves_no_process_and_the_next_one_removes_its_folder(tmp_path: Path) -> None:
    with pytest.raises(NotStarted), running("--nodes=1", temporary=tmp_path) as plane:
        os.kill(plane.keeper, signal.SIGKILL)
    assert left_behind(tmp_path, plane) == [plane.folder]
    with running("--nodes=1", temporary=tmp_path) as next_one:
        assert list(tmp_path.iterdir()) == [next_one.folder]
    assert not left_behind(tmp_path, next_one)
