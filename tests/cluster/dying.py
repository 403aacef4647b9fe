"""An operator that a test can rely on to die, or to be stopped, at an exact step: `python -m tests.cluster.dying`.

DIES_AFTER is the number of steps after which it kills itself, the last one done; STOPS_BEFORE_FOREIGN the number of the foreign write
before which it stops itself, as a hypervisor might, until somebody lets it go on. CLOCK_OFF_S is how far its clock is ahead of others'.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from groundswell_operator.applying.requests import wall_clock
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.running import run
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.steps import Foreign, Step
from groundswell_operator.settings import Settings


class Dying:
    """Carries out steps until its own is due."""

    def __init__(self, cluster: Cluster, dies_after: int, stops_before_foreign: int) -> None:
        self._cluster = cluster
        self._left, self._foreign_left = dies_after, stops_before_foreign

    async def read(self) -> Namespace:
        return await self._cluster.read()

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        if isinstance(step, Foreign):
            self._foreign_left -= 1
            if self._foreign_left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
        found = await self._cluster.perform(step, state, now_s)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def main() -> int:
    """The command; its exit code."""
    logging.basicConfig(level=logging.INFO)
    dies, stops = (int(os.environ.get(name, "0")) for name in ("DIES_AFTER", "STOPS_BEFORE_FOREIGN"))
    off_s = float(os.environ.get("CLOCK_OFF_S", "0"))
    return asyncio.run(run(Settings.of(), lambda cluster: Dying(cluster, dies, stops), lambda: wall_clock() + off_s))


if __name__ == "__main__":
    sys.exit(main())
