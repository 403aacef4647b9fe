"""Partitions that are held: their log lacks what was read from it, so they are not worked on until it holds that again.

They are looked at again, at longer and longer pauses: a log may merely be catching up with what it told before. The others go on.
"""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from prometheus_client import Gauge

from groundswell.kernel.bus.intents import LogLost

log = logging.getLogger(__name__)

PAUSE_S = 0.5
PAUSE_S_MAX = 15.0
TOLD_S = 60.0
"""How often a held partition is told of at most."""

HELD = Gauge(
    "groundswell_writer_partition_held", "1 while a partition's log lacks what was stored of it.", ["partition"]
)


@dataclass(slots=True)
class _Hold:
    pause_s: float = PAUSE_S
    look_at_s: float = 0.0
    told_at_s: float = float("-inf")


class Held:
    """The held partitions of one process."""

    def __init__(self) -> None:
        self._holds: dict[int, _Hold] = {}

    def due(self, fresh: Collection[int]) -> list[int]:
        """Which of these partitions are to be looked at now: those that are not held, and those whose pause is over."""
        now_s = time.monotonic()
        return sorted(p for p in fresh if p not in self._holds or self._holds[p].look_at_s <= now_s)

    def hold(self, error: LogLost, *, pause: bool) -> None:
        """The partition is not worked on, and looked at again at once or after a `pause`; tells why, at most once a minute."""
        hold, now_s = self._holds.setdefault(error.partition, _Hold()), time.monotonic()
        if pause:
            hold.look_at_s, hold.pause_s = now_s + hold.pause_s, min(hold.pause_s * 2, PAUSE_S_MAX)
        HELD.labels(str(error.partition)).set(1)
        if now_s - hold.told_at_s >= TOLD_S:
            hold.told_at_s = now_s
            log.error(
                "%s Nothing of the partition is stored meanwhile (docs/systems/analytics.md, When the log lost its end).",
                error,
            )

    def release(self, partition: int) -> None:
        """The log holds what was read from it."""
        if self._holds.pop(partition, None) is not None:
            log.info("the log of partition %d holds again what was read from it", partition)
        HELD.labels(str(partition)).set(0)

    def keep(self, partitions: Collection[int]) -> None:
        """Others than these are another process's by now."""
        for partition in self._holds.keys() - set(partitions):
            del self._holds[partition]
            HELD.labels(str(partition)).set(0)
