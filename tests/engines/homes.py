"""A home of a test, driven by the product's own command line."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from groundswell.engines import children
from groundswell.engines.state import ProcessState, State, read

TOPOLOGY = Path(__file__).with_name("topology.yaml")
WAIT_S_MAX = 20.0


class Platform:
    """The command line, pointed at one home."""

    def __init__(self, home: Path, topology: Path = TOPOLOGY, given: Mapping[str, str] = MappingProxyType({})) -> None:
        """`given` are addresses of engines of one's own."""
        self.home = home
        self.topology = topology
        self._given = given

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command; its exit code, stdout and stderr."""
        verb, *rest = words
        command = [sys.executable, "-m", "groundswell", verb, f"--home={self.home}", *rest]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env=environment() | dict(self._given)
        )

    def up(self, *words: str, topology: str = "each") -> subprocess.CompletedProcess[str]:
        return self.run("up", f"--topology={topology}", f"--topology-file={self.topology}", *(words or ("--port=0",)))

    def state(self) -> State:
        found = read(self.home / "state.json")
        assert found is not None
        return found

    def process(self, name: str) -> ProcessState:
        return next(each for each in self.state().processes if each.name == name)

    def pid(self, name: str) -> int:
        pid = self.process(name).pid
        assert pid is not None
        return pid

    def settings(self, name: str) -> dict[str, str]:
        """The environment that a running program sees."""
        with urllib.request.urlopen(f"http://{self.process(name).addresses['ops']}/settings", timeout=5) as answer:
            found: dict[str, str] = json.load(answer)
        return found

    def pids(self) -> list[int]:
        """Everything that belongs to the platform now, the supervisor included."""
        return [int(self.state().supervisor["pid"]), *(each.pid for each in self.state().processes if each.pid)]


def environment() -> dict[str, str]:
    """Engines of the test session's environment would replace those of the topology."""
    given = {"REDIS_URL", "OBJECT_STORE_URL", "KAFKA_BOOTSTRAP_SERVERS"}
    return {name: value for name, value in os.environ.items() if name not in given}


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(children.POLL_S)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
