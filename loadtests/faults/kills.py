"""Kills: what is struck, how, and what became of it.

`kill` is SIGKILL. `freeze` stops the process for a moment first, so that its peers have sent into a dead end when it
dies. `crash` switches on a named crash point, lets the process die there, and switches the point off again. Each ends
when the victim's successor is ready.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from loadtests.platform.installation import Installation, PlatformFailed

How = Literal["kill", "freeze", "crash"]
FREEZE_S = 1.0
BACK_S_MAX = 60.0
CRASH_S_MAX = 20.0
FAILPOINTS = "GROUNDSWELL_FAILPOINTS"


@dataclass(frozen=True, slots=True)
class Kill:
    """One strike of the plan: `at_s` after the load's start, on the process that holds `victim` (a module or an engine)."""

    at_s: float
    victim: str
    how: How = "kill"
    point: str = ""
    """The crash point, for `crash`."""


@dataclass(frozen=True, slots=True)
class Struck:
    """A kill that was made; times are seconds after the load's start."""

    victim: str
    process: str
    how: How
    point: str
    pid: int
    at_s: float
    back_s: float


class Killer:
    """Makes planned kills one after the other; `struck` is what it did. A kill waits until its victim is up again from the last one."""

    def __init__(self, installation: Installation, start_s: Callable[[], float], say: Callable[[str], None]) -> None:
        """`start_s` tells the load's start on `time.monotonic()`."""
        self._installation, self._start_s, self._say = installation, start_s, say
        self.struck: list[Struck] = []

    async def run(self, kills: list[Kill]) -> None:
        """Raises `PlatformFailed` when a victim does not come back."""
        for kill in sorted(kills, key=lambda each: each.at_s):
            await asyncio.sleep(max(kill.at_s - self._elapsed_s, 0))
            self.struck.append(await self._strike(kill))

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start_s()

    async def _strike(self, kill: Kill) -> Struck:
        name = self._installation.holder(kill.victim)
        await self._installation.ready(name, BACK_S_MAX)
        if kill.how == "crash":
            pid, at_s = await self._crash(name, kill.point)
        else:
            at_s = self._elapsed_s
            pid = await self._freeze(name) if kill.how == "freeze" else self._installation.signal(name, signal.SIGKILL)
            self._say(f"kill -9 {name} (pid {pid}){' after a freeze' if kill.how == 'freeze' else ''}")
        await self._installation.ready(name, BACK_S_MAX, other_than=pid)
        back_s = self._elapsed_s
        self._say(f"{name} is back after {back_s - at_s:.1f} s")
        return Struck(kill.victim, name, kill.how, kill.point, pid, at_s, back_s)

    async def _freeze(self, name: str) -> int:
        pid = self._installation.signal(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(FREEZE_S)
        finally:  # a killed process needs no SIGCONT, and a cancelled freeze must not stay
            self._installation.signal(name, signal.SIGKILL)
        return pid

    async def _crash(self, name: str, point: str) -> tuple[int, float]:
        """Lets the process die at a crash point; its successor must not have it, or it would die there again."""
        try:
            with contextlib.suppress(PlatformFailed):  # it may die before it was ready: then the restart says so
                await self._installation.restart(name, {FAILPOINTS: f"{point}=kill@3"})
            armed = self._installation.processes()[name]
            end_s = time.monotonic() + CRASH_S_MAX
            while self._installation.processes()[name].restarts == armed.restarts and time.monotonic() < end_s:
                await asyncio.sleep(0.05)
            at_s = self._elapsed_s
            self._say(f"{name} died at {point}")
        finally:
            await self._installation.restart(name, {FAILPOINTS: ""})
        return armed.pid or 0, at_s
