"""The plan of a load: every arrival's moment, target and visitor, drawn from a seed.

Invariant: a plan depends on its streams, its visitors and its seed alone; `digest` is the same on every machine.
Targets are numbers, because the links that they stand for are made later, by each run anew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.arrivals import shapes
from loadtests.arrivals.agents import AGENTS, BOTS
from loadtests.arrivals.shapes import Shape

ARRIVAL = np.dtype([("at_us", "<i8"), ("target", "<u2"), ("agent", "<u2"), ("visitor", "<u4")])
ADDRESSES = 1 << 24
_SPREAD = 0x9E3779B1  # odd, so multiplying by it permutes the addresses


@dataclass(frozen=True, slots=True)
class Stream:
    """One load on the targets `first` to `first + targets - 1`; `skew` is Zipf's exponent, 0 makes them equally likely."""

    shape: Shape
    first: int
    targets: int
    skew: float = 0.0


@dataclass(frozen=True, slots=True)
class Visitors:
    """Share of arrivals by visitors that came before, and share of visitors that are programs."""

    repeat_share: float = 0.3
    bot_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """All arrivals in the order of their moments."""

    arrivals: npt.NDArray[np.void]
    seed: int

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def seconds(self) -> float:
        return float(self.arrivals["at_us"][-1]) / 1e6 if len(self) else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of the arrivals and the seed."""
        return hashlib.sha256(self.seed.to_bytes(8, "little") + self.arrivals.tobytes()).hexdigest()

    def is_bot(self) -> npt.NDArray[np.bool_]:
        """For each arrival: does its visitor say that it is a program?"""
        return np.asarray(self.arrivals["agent"] < BOTS)

    def save(self, path: Path) -> None:
        np.save(path, self.arrivals, allow_pickle=False)


def load(path: Path, seed: int) -> Plan:
    return Plan(np.load(path, allow_pickle=False), seed)


def draw(streams: Sequence[Stream], visitors: Visitors, seed: int) -> Plan:
    """The plan of these streams."""
    random = np.random.default_rng(seed)
    parts = [_stream(stream, random) for stream in streams]
    arrivals = np.concatenate(parts) if parts else np.empty(0, ARRIVAL)
    arrivals = arrivals[np.argsort(arrivals["at_us"], kind="stable")]
    _invite(arrivals, visitors, random)
    return Plan(arrivals, seed)


def address_of(visitor: int, seed: int) -> str:
    """The visitor's address in 10.0.0.0/8; visitors below `ADDRESSES` never share one."""
    spread = (visitor * _SPREAD + seed) % ADDRESSES
    return f"10.{spread >> 16}.{spread >> 8 & 255}.{spread & 255}"


def _stream(stream: Stream, random: np.random.Generator) -> npt.NDArray[np.void]:
    times = shapes.arrival_times_us(stream.shape)
    weights = 1 / np.arange(1, stream.targets + 1, dtype=np.float64) ** stream.skew
    edges = np.cumsum(weights / weights.sum())
    arrivals = np.zeros(len(times), ARRIVAL)
    arrivals["at_us"] = times
    arrivals["target"] = stream.first + np.minimum(
        np.searchsorted(edges, random.random(len(times)), side="right"), stream.targets - 1
    )
    return arrivals


def _invite(arrivals: npt.NDArray[np.void], visitors: Visitors, random: np.random.Generator) -> None:
    """Gives each arrival its visitor: a new one, or one of those who came before."""
    count = len(arrivals)
    if not count:
        return
    is_new = random.random(count) >= visitors.repeat_share
    is_new[0] = True
    so_far = np.cumsum(is_new)
    who = np.where(is_new, so_far - 1, (random.random(count) * so_far).astype(np.int64))
    people = int(so_far[-1])
    is_bot, pick = random.random(people) < visitors.bot_share, random.random(people)
    agent = np.where(is_bot, (pick * BOTS).astype(np.int64), BOTS + (pick * (len(AGENTS) - BOTS)).astype(np.int64))
    arrivals["visitor"] = who
    arrivals["agent"] = agent[who]
