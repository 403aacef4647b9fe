"""A platform on this machine, known by its home folder.

Invariant: only processes that the supervisor's `state.json` names are ever signalled, and only while their start time
is the recorded one, so a pid that the system has given to somebody else is left alone. Everything else goes through
the command line.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

POLL_S = 0.05
# The system tells the second of its boot in whole seconds, so that a clock that is set by a millisecond may move all start times by one.
START_TIME_ERROR_S = 2.0
FAILPOINTS, TRUSTED_PROXIES = "GROUNDSWELL_FAILPOINTS", "GATEWAY_TRUSTED_PROXIES"
LOOPBACK = "127.0.0.0/8"
ROOT = Path(__file__).parents[2]
DEFAULT_HOME = Path(".groundswell")


class PlatformFailed(Exception):
    """The platform did not do what it was told; the message says what and where to look."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process or engine as the supervisor records it."""

    name: str
    state: str
    pid: int | None
    started: float | None
    restarts: int
    modules: tuple[str, ...]
    settings: dict[str, str]

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `up` wrote for its user."""

    url: str
    platform_key: str
    api_key: str
    """Of the first tenant."""


class Installation:
    """One home folder and what runs in it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def processes(self) -> dict[str, Process]:
        """What runs by name; empty while nothing does."""
        told = self._state()
        return {} if told is None else {each["name"]: _process(each) for each in told["processes"]}

    @property
    def topology(self) -> str | None:
        """The topology that runs; None while nothing does."""
        told = self._state()
        return None if told is None else str(told["topology"])

    def holder(self, module: str) -> str:
        """The process that holds a module, or the engine of that name; raises `PlatformFailed`."""
        for process in self.processes().values():
            if module == process.name or module in process.modules:
                return process.name
        raise self._nothing_holds(module)

    def addresses(self, name: str) -> dict[str, str]:
        """Where a process or engine listens, by the purpose of the port; raises `PlatformFailed`."""
        told = self._state()
        for each in told["processes"] if told is not None else ():
            if each["name"] == name:
                return dict(each["addresses"])
        raise self._nothing_holds(name)

    def credentials(self) -> Credentials:
        told = json.loads((self.home / "credentials.json").read_text())
        return Credentials(told["url"], told["platform_key"], told["api_key"])

    async def up(self, topology: str, port: int | None) -> bool:
        """Starts the platform unless it runs; says whether it did. Raises `PlatformFailed`, also when another topology runs.

        A platform that is started here has its crash points in a file (see `arm`) and believes what visitors from
        loopback say of their addresses, since all visitors of a load come from there.
        """
        running = self.topology
        if running is None:
            chosen = [] if port is None else [f"--port={port}"]
            await self._command("up", f"--topology={topology}", *chosen, environment=self._environment())
            return True
        if running != topology:
            raise PlatformFailed(
                f"The platform in {self.home} runs in the topology `{running}`, not `{topology}`. "
                f"Stop it with: {stop_command(self.home, Path.cwd())}"
            )
        await self.all_ready(timeout_s=30)
        door = self.holder("gateway")
        if TRUSTED_PROXIES not in self.processes()[door].settings:
            await self.restart(door, {TRUSTED_PROXIES: LOOPBACK})
        return False

    def arm(self, points: str) -> None:
        """Switches crash points on (`writer.after_rows=kill`) in a platform that `up` started; nothing switches them off."""
        file, new = self._points, self._points.with_suffix(".new")
        if points:
            new.write_text(points)
            new.replace(file)  # so that nobody reads half of it
        else:
            file.unlink(missing_ok=True)

    @property
    def _points(self) -> Path:
        return self.home.absolute() / "failpoints"

    def _environment(self) -> dict[str, str]:
        return {FAILPOINTS: f"@{self._points}", TRUSTED_PROXIES: LOOPBACK}

    async def down(self) -> None:
        await self._command("down")

    async def restart(self, name: str, settings: dict[str, str]) -> None:
        """Restarts a process or engine with added settings (an empty value takes one back); returns when it is ready."""
        changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        await self._command("restart", name, *changes)

    async def stop(self, name: str) -> None:
        """Stops a process or engine; it stays so until `start`."""
        await self._command("stop", name)

    async def start(self, name: str) -> None:
        """Starts what was stopped; returns when it is ready."""
        await self._command("start", name)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Signals one process of the platform; returns its pid. Raises `PlatformFailed` when it does not run."""
        process = self.processes().get(name)
        if process is None or process.pid is None or not is_same(process.pid, process.started):
            raise PlatformFailed(f"{name} does not run in {self.home}; there is nothing to signal.")
        os.kill(process.pid, number)
        return process.pid

    async def ready(self, name: str, timeout_s: float, *, other_than: int = 0) -> Process:
        """Waits until a process is ready, and is not the one with that pid any more."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            process = self.processes().get(name)
            if process is not None and process.is_ready and process.pid != other_than:
                return process
            await asyncio.sleep(POLL_S)
        raise PlatformFailed(
            f"{name} was not ready after {timeout_s:.0f} s; its log: groundswell logs {name} --home {self.home}"
        )

    async def all_ready(self, timeout_s: float) -> None:
        for name in self.processes():
            await self.ready(name, timeout_s)

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory of each process with its children; pages that several of them share count once where the system says so."""
        return {
            process.name: _memory_bytes(process.pid) for process in self.processes().values() if process.pid is not None
        }

    def _state(self) -> dict[str, Any] | None:
        """What the supervisor records; None while there is none, also where one that was killed has left its last word."""
        try:
            told: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        except FileNotFoundError:
            return None
        return told if _lives(int(told["supervisor"]["pid"]), told["supervisor"]["started"]) else None

    def _nothing_holds(self, name: str) -> PlatformFailed:
        return PlatformFailed(f"Nothing in {self.home} holds {name!r}; see: groundswell ps --home {self.home}")

    async def _command(self, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        command = [sys.executable, "-m", "groundswell", arguments[0], "--home", str(self.home), *arguments[1:]]
        child = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        try:
            said, _ = await child.communicate()
        except asyncio.CancelledError:
            await (
                child.wait()
            )  # ctrl-C at a terminal is for the child as well; what it leaves is there only once it has ended
            raise
        if child.returncode != 0:
            raise PlatformFailed(
                f"`groundswell {' '.join(arguments)}` failed:\n{said.decode(errors='replace').strip()}"
            )


def stop_command(home: Path, folder: Path) -> str:
    """What a person in `folder` types to stop the platform of `home`."""
    if folder == ROOT and folder / home == folder / DEFAULT_HOME:
        return "make down"
    program = Path(sys.executable).parent / "groundswell"
    if folder in program.parents[1:]:
        program = program.relative_to(folder)
    return shlex.join([str(program), "down", "--home", str(home)])


def _process(told: dict[str, object]) -> Process:
    fields = {name: told[name] for name in ("name", "state", "pid", "started", "restarts", "settings")}
    modules = told["modules"]
    assert isinstance(modules, list)
    return Process(**fields, modules=tuple(modules))  # type: ignore[arg-type]  # the supervisor's own words


def is_same(pid: int, started: float | None) -> bool:
    """Whether `pid` is still the process that began at `started`, and not another one of that number."""
    try:
        return started is not None and abs(psutil.Process(pid).create_time() - started) < START_TIME_ERROR_S
    except psutil.NoSuchProcess:
        return False


def _lives(pid: int, started: float) -> bool:
    """Whether that process still runs, and is not a dead one that nobody has reaped."""
    try:
        return is_same(pid, started) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _memory_bytes(pid: int) -> int:
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += int(process.memory_full_info().pss)
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            total += int(process.memory_info().rss)
    return total
