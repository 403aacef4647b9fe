"""The replicas of one process: as many of its keepers are wanted as somebody has asked for last, one at first.

There is a keeper for each replica that there may ever be, since the addresses of all are drawn before anybody calls one of them. Those
beyond the wanted number are stopped, and are not shown. The highest goes first, and goes as at a restart: it answers what it has taken.
A number that was asked for stands until the platform is taken down; whoever asks may say who they are and which number they have seen,
so that nobody overwrites what they do not know of.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from groundswell.engines.errors import Outdated, ScaleRefused
from groundswell.engines.keeper import Keeper
from groundswell.engines.state import ReplicasState
from groundswell.engines.topology import Bound

USER = "user"
"""Who asks by the command line."""


class Replicas:
    """One process of the topology."""

    def __init__(self, name: str, keepers: Sequence[Keeper], bound: Bound) -> None:
        """`keepers` are as many as `bound` allows, in the order in which they come."""
        self.name = name
        self._keepers = keepers
        self._bound = bound
        self._desired = 1
        self._by = ""
        self._version = int(time.time() * 1000)  # an earlier supervisor's numbers were lower
        self._runs = False

    @property
    def wanted(self) -> Sequence[Keeper]:
        """Those that are to run while the process does."""
        return self._keepers[: self._desired]

    @property
    def shown(self) -> Sequence[Keeper]:
        """Those that are wanted, or have not ended yet."""
        return [each for each in self._keepers if each in self.wanted or each.state != "stopped"]

    def start(self) -> None:
        """All that are wanted run from now on."""
        self._runs = True
        self._settle()

    def stop(self) -> None:
        """None runs until the next start; how many are wanted then is kept."""
        self._runs = False
        self._settle()

    def wants(self, keeper: Keeper) -> bool:
        """Whether it is among those that are to run now."""
        return self._runs and keeper in self.wanted

    def scale(self, replicas: int, by: str = USER, version: int | None = None) -> None:
        """Sets how many are wanted; raises `ScaleRefused` beyond the bounds, `Outdated` when `version` is not the current one.

        A further replica has the settings that the first one was given.
        """
        if replicas < 1:
            raise ScaleRefused(f"{self.name} has 1 replica at least; `groundswell stop {self.name}` stops it.")
        if replicas > self._bound.most:
            plural = "replica" if self._bound.most == 1 else "replicas on one machine"
            raise ScaleRefused(f"{self.name} cannot have more than {self._bound.most} {plural}: {self._bound.why}.")
        if version not in (None, self._version):
            raise Outdated(f"{self.name} was scaled by somebody else meanwhile: look again.")
        for keeper in self._keepers[self._desired : replicas]:
            keeper.settings = dict(self._keepers[0].settings)
        self._desired, self._by, self._version = replicas, by, self._version + 1
        self._settle()

    def snapshot(self) -> ReplicasState:
        """Its line in state.json."""
        ready = sum(each.is_ready for each in self.wanted)
        return ReplicasState(self._desired, ready, self._bound.most, self._version, self._by)

    def told(self) -> dict[str, Any]:
        """What the control socket says of it."""
        return {"name": self.name, **asdict(self.snapshot())}

    def _settle(self) -> None:
        for keeper in self._keepers:
            keeper.want(self.wants(keeper))
