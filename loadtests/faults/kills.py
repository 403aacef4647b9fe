"""Kills: what is struck, how, and what became of it.

`kill` is SIGKILL. `freeze` stops the process for a moment first, so that its peers have sent into a dead end when it
dies. Any other way names a crash point of the platform: the process dies by its own hand the next time it gets there
(the platform must have been started with a failpoint file, see `Installation.up`). A strike ends when the victim's
successor is ready. Different processes are struck without regard to each other, as real deaths are; one process is
struck again only once it is back.
"""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.platform.installation import Installation, PlatformFailed

KILL, FREEZE = "kill", "freeze"
FREEZE_S = 1.0
BACK_S_MAX = 60.0
CRASH_S_MAX = BACK_S_MAX
"""What a victim must get back before it reaches its crash point may have been struck itself a moment ago."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One strike of the plan: `at_s` after the load's start, on the process that holds `victim` (a module or an engine)."""

    at_s: float
    victim: str
    how: str = KILL
    """`kill`, `freeze`, or a crash point such as `writer.after_rows`."""


@dataclass(frozen=True, slots=True)
class Struck:
    """A kill that was made; times are seconds after the load's start."""

    victim: str
    process: str
    how: str
    pid: int
    at_s: float
    back_s: float

    @property
    def title(self) -> str:
        """What was meant, and where it lives: a process may hold several modules."""
        return _title(self.victim, self.process)


class Killer:
    """Makes planned kills; `struck` is what it did, in the order of the deaths."""

    def __init__(self, installation: Installation, start_s: Callable[[], float], say: Callable[[str], None]) -> None:
        """`start_s` tells the load's start on `time.monotonic()`."""
        self._installation, self._start_s, self._say = installation, start_s, say
        self._arming = asyncio.Lock()
        self._struck: list[Struck] = []

    @property
    def struck(self) -> list[Struck]:
        return sorted(self._struck, key=lambda each: each.at_s)

    async def run(self, kills: Sequence[Kill]) -> None:
        """Raises `PlatformFailed` when a victim does not die as planned, or does not come back."""
        by_process: dict[str, list[Kill]] = defaultdict(list)
        for kill in sorted(kills, key=lambda each: each.at_s):
            by_process[self._installation.holder(kill.victim)].append(kill)
        striking = [asyncio.create_task(self._strike_all(name, each)) for name, each in by_process.items()]
        try:
            await asyncio.gather(*striking)
        finally:
            for task in striking:
                task.cancel()
            await asyncio.gather(*striking, return_exceptions=True)

    async def _strike_all(self, name: str, kills: Sequence[Kill]) -> None:
        for kill in kills:
            await asyncio.sleep(max(kill.at_s - self._elapsed_s, 0))
            await self._installation.ready(name, BACK_S_MAX)
            title, pid = _title(kill.victim, name), await self._die(name, kill.how)
            at_s = self._elapsed_s
            self._say(f"{_sentence(kill.how)} {title} (pid {pid})")
            await self._installation.ready(name, BACK_S_MAX, other_than=pid)
            self._struck.append(Struck(kill.victim, name, kill.how, pid, at_s, self._elapsed_s))
            self._say(f"{title} is back after {self._elapsed_s - at_s:.1f} s")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start_s()

    async def _die(self, name: str, how: str) -> int:
        """Returns the pid of the dead."""
        if how == KILL:
            return self._installation.signal(name, signal.SIGKILL)
        return await (self._freeze(name) if how == FREEZE else self._crash(name, how))

    async def _freeze(self, name: str) -> int:
        pid = self._installation.signal(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(FREEZE_S)
        finally:  # a killed process needs no SIGCONT, and a cancelled freeze must not stay
            self._installation.signal(name, signal.SIGKILL)
        return pid

    async def _crash(self, name: str, point: str) -> int:
        """Lets the process die at a crash point; the point is off again when its successor starts."""
        async with self._arming:
            pid = self._pid(name)
            self._installation.arm(f"{point}=kill")
            end_s = time.monotonic() + CRASH_S_MAX
            try:
                while self._pid(name) == pid:
                    if time.monotonic() > end_s:
                        raise PlatformFailed(f"{name} did not reach the crash point {point} in {CRASH_S_MAX:.0f} s.")
                    await asyncio.sleep(0.02)
            finally:
                self._installation.arm("")
        return pid or 0

    def _pid(self, name: str) -> int | None:
        process = self._installation.processes().get(name)
        return process.pid if process is not None else None


def _title(victim: str, process: str) -> str:
    return victim if victim == process else f"{victim} in the process {process}"


def _sentence(how: str) -> str:
    if how == KILL:
        return "kill -9"
    return "kill -9 after a freeze:" if how == FREEZE else f"crash at {how}:"
