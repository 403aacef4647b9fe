"""How old the newest numbers are on the live page, seen from outside.

Two views of one thing, sampled with every message of the live page. `told` is the platform's own figure: the age of
the newest event when it was counted. `seen` is ours: when a message says N clicks, the oldest click it does not hold
yet is the N+1-th that was answered; its age at that moment is how far the page lags, which no clock of the platform
can hide.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
import numpy.typing as npt

from loadtests.generator import histogram
from loadtests.generator.child import Loaded
from loadtests.generator.log import PROMISED
from loadtests.platform.api import Door, Live

RECONNECT_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of the live page; `at_s` is `time.monotonic()`."""

    at_s: float
    told_ms: int
    events: int
    is_complete: bool
    """False while the counters of a process that has just started are still read from the log."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the samples of a time, in milliseconds; None when there were none."""

    p50: float | None
    p99: float | None
    samples: int


class Sampler:
    """Follows the live page until cancelled; reconnects when its stream breaks, as the page does."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.samples: list[Sample] = []

    async def run(self) -> None:
        while True:
            try:
                async for message in self._door.watch():
                    self.samples.append(_sample(message))
            except httpx.HTTPError:
                await asyncio.sleep(RECONNECT_S)

    @property
    def newest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None


def _sample(message: Live) -> Sample:
    return Sample(time.monotonic(), message.freshness_ms, message.window_events, message.is_complete)


def told(samples: Sequence[Sample]) -> Percentiles:
    """The platform's own figure."""
    return _percentiles([float(sample.told_ms) for sample in samples if sample.events])


def seen(samples: Sequence[Sample], loaded: Loaded) -> Percentiles:
    """The page's lag behind the answers."""
    at_s = promised_s(loaded)
    lags = [
        max(sample.at_s - loaded.started_s - float(at_s[sample.events]), 0.0) * 1000
        if sample.events < len(at_s)
        else 0.0
        for sample in samples
    ]
    return _percentiles(lags)


def promised_s(loaded: Loaded) -> npt.NDArray[np.float64]:
    """When each view was promised, in seconds after the load's start, in order."""
    is_promised = np.isin(loaded.records["outcome"], [int(outcome) for outcome in PROMISED])
    at_s: npt.NDArray[np.float64] = np.sort(loaded.records["at_us"][is_promised]) / 1e6
    return at_s


def _percentiles(milliseconds: Sequence[float]) -> Percentiles:
    if not milliseconds:
        return Percentiles(None, None, 0)
    counts = histogram.of((np.array(milliseconds) * 1000).astype(np.int64))
    p50, p99 = (round(counts.percentile_us(share) / 1000, 1) for share in (0.5, 0.99))
    return Percentiles(p50, p99, len(milliseconds))
