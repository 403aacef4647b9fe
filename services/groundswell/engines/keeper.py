"""Keeps one process alive: starts it, watches its readiness, starts it again when it crashes, and stops it when told to.

A crash is answered at once the first time (0.2 s) and twice as late each time after, up to 10 s; half a minute of health forgets it.
What the user stopped stays stopped. One task (`run`) owns the child, so that no two starts can overlap; everybody else only sets
what is wanted and waits for what happens.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from groundswell.engines.children import Child, Launch
from groundswell.engines.state import Condition, ProcessState

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.2, 10.0
HEALTHY_S = 30.0
PROBE_STARTING_S, PROBE_READY_S = 0.1, 2.0

Describe = Callable[[], ProcessState]


class Keeper:
    """One kept process. `run` must be running for anything to happen."""

    def __init__(
        self,
        described: ProcessState,
        launch: Callable[[Mapping[str, str]], Launch | None],
        ready: Callable[[], Awaitable[bool]],
        report: Callable[[str], None],
    ) -> None:
        """`launch` says how to start it with added variables (None: it has no process); `report` hears of every change."""
        self.described = described
        self.settings: dict[str, str] = {}
        self._launch = launch
        self._ready = ready
        self._report = report
        self._child: Child | None = None
        self._state: Condition = "stopped"
        self._since = time.time()
        self._restarts = 0
        self._last_exit = ""
        self._wanted = False
        self._leaving = False
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.described.name

    @property
    def state(self) -> Condition:
        return self._state

    @property
    def restarts(self) -> int:
        return self._restarts

    @property
    def wanted(self) -> bool:
        return self._wanted

    @property
    def is_ready(self) -> bool:
        """Whether it may take work: not while it leaves, though it be wanted again by then."""
        return self._state == "ready" and not self._leaving

    def snapshot(self) -> ProcessState:
        """Its line in state.json."""
        child = self._child
        return replace(
            self.described,
            state=self._state,
            since=self._since,
            pid=child.pid if child else None,
            started=child.started_s if child else None,
            restarts=self._restarts,
            settings=dict(self.settings),
            last_exit=self._last_exit,
        )

    def want(self, wanted: bool) -> None:
        """Whether it should run; takes effect at once."""
        self._wanted = wanted
        self._changed.set()

    async def until(self, *states: Condition) -> None:
        """Waits until it is in one of `states`."""
        while self._state not in states:
            await asyncio.sleep(PROBE_STARTING_S / 5)

    async def run(self) -> None:
        """Keeps the process until cancelled, then ends it. After that, and after an error, it is stopped: nobody waits for it in vain."""
        try:
            await self._keep()
        finally:
            if self._child is not None:
                self._child.kill()
                self._child = None
            self._state, self._wanted = "stopped", False

    async def _keep(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            if not self._wanted:
                self._enter("stopped", "")
                await self._pause(None)
                continue
            began = time.monotonic()
            crashed = await self._live_once()
            if not crashed:
                backoff_s = BACKOFF_S_MIN
                continue
            if time.monotonic() - began > HEALTHY_S:
                backoff_s = BACKOFF_S_MIN
            self._restarts += 1
            await self._pause(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)

    async def _live_once(self) -> bool:
        """One life of the process: True when it ended by itself or could not begin, False when it was stopped."""
        try:
            launch = self._launch(self.settings)
            self._child = Child(launch) if launch else None
        except OSError as error:
            self._last_exit = f"could not be started: {error}"
            self._enter("failed", self._last_exit)
            return True
        self._enter("starting", f"starting (pid {self._child.pid})" if self._child else "starting")
        while self._wanted:
            if self._child is not None and (code := self._child.exit_code) is not None:
                self._child.kill()  # what it may have left behind in its group
                self._child = None
                self._last_exit = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
                self._enter("backing-off", f"{self._last_exit}, will be started again")
                return True
            if self._child is not None:
                await asyncio.to_thread(self._child.bound_log)
            was_ready = self._state == "ready"
            ready = await self._ready()
            if not self._wanted:
                break
            self._enter("ready" if ready else "starting", "no longer ready" if was_ready and not ready else "")
            await self._pause(PROBE_READY_S if self._state == "ready" else PROBE_STARTING_S)
        if self._child is not None:
            self._leaving = True
            await self._child.stop()
            self._child = None
        self._leaving = False
        self._enter("stopped", "stopped")
        return False

    async def _pause(self, seconds: float | None) -> None:
        """Waits, but not beyond a change of what is wanted or the end of the child."""
        self._changed.clear()
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._changed.wait())]
        if self._child is not None:
            waits.append(asyncio.create_task(self._child.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    def _enter(self, state: Condition, line: str) -> None:
        if state != self._state:
            line = line or state
            self._state, self._since = state, time.time()
        elif not line:
            return
        self._report(f"{self.name}: {line}")
