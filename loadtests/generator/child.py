"""The generator as its parent sees it: a running load, and what came of it."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.arrivals.plan import Plan
from loadtests.generator import log
from loadtests.generator.order import LOG, OFF_SHARE_MAX, PLAN, Order

BEGUN_POLL_S = 0.02


class GeneratorFailed(Exception):
    """The generator's process ended before its plan did."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the generator has said last."""

    elapsed_s: float = 0.0
    dispatched: int = 0
    late: int = 0
    waiting: int = 0
    unsent: int = 0
    done: bool = False
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def promised(self) -> int:
        return sum(self.outcomes.get(outcome.name.lower(), 0) for outcome in log.PROMISED)

    @property
    def unknown(self) -> int:
        return self.outcomes.get(log.Outcome.UNKNOWN.name.lower(), 0)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A finished load."""

    plan: Plan
    records: npt.NDArray[np.void]
    late: int
    unsent: int
    started_s: float
    """`time.monotonic()` of the parent at which the load began, to a few milliseconds."""

    @property
    def off_share(self) -> float:
        """Share of arrivals that did not come as ordered."""
        return (self.late + self.unsent) / max(len(self.plan), 1)

    @property
    def is_as_ordered(self) -> bool:
        return self.off_share <= OFF_SHARE_MAX


class Load:
    """One generator process. Use as a context manager: it never outlives the block."""

    def __init__(self, folder: Path, plan: Plan, order: Order) -> None:
        self._folder, self._plan = folder, plan
        plan.save(folder / PLAN)
        order.save(folder)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.started_s = 0.0
        self.progress = Progress()

    async def __aenter__(self) -> "Load":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtests.generator", str(self._folder), stdout=asyncio.subprocess.PIPE
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reader is not None
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reader

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def begun(self) -> None:
        """Waits until the load runs; raises `GeneratorFailed` when the generator ends before."""
        assert self._reader is not None
        while not self.started_s:
            if self._reader.done():
                await self.finished()
            await asyncio.sleep(BEGUN_POLL_S)

    async def finished(self) -> Loaded:
        """Waits for the end of the load; raises `GeneratorFailed`."""
        assert self._process is not None
        assert self._reader is not None
        await self._reader
        if await self._process.wait() != 0 or not self.progress.done:
            raise GeneratorFailed("The load generator ended before its plan did; its own message is above.")
        records = log.read(self._folder / LOG)
        return Loaded(self._plan, records, self.progress.late, self.progress.unsent, self.started_s)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.progress = Progress(**json.loads(line))
            if not self.started_s:
                self.started_s = time.monotonic() - self.progress.elapsed_s
