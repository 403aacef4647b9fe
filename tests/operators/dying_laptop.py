"""The laptop's operator, which kills itself after one step: `python -m tests.operators.dying_laptop --home DIR POLICY`.

A note on a policy is due every second while something is raised, so a process that died of it would never come to hear the log; every
other step ends it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from groundswell_operator.applying.writing import Cluster
from groundswell_operator.laptop import command
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.steps import Note, Step


class Dying:
    """Carries out one step."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def read(self) -> Namespace:
        return await self._cluster.read()

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        found = await self._cluster.perform(step, state, now_s)
        if not isinstance(step, Note):
            os.kill(os.getpid(), signal.SIGKILL)
        return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    command.add(parser)
    sys.exit(command.run(parser.parse_args(), Dying))
