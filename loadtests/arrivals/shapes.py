"""Shapes of a load: the rate of arrivals as a function of time.

A shape is a list of pieces on which the rate is linear, so the number of arrivals up to a moment is a parabola with a
closed inverse: the k-th arrival's moment is computed, never drawn, and the number of arrivals is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE_MAX = 50_000.0
SECONDS_MAX = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Piece:
    """`seconds` in which the rate goes from `start` to `end` arrivals per second."""

    start: float
    end: float
    seconds: float

    def __post_init__(self) -> None:
        if not (0 <= self.start <= RATE_MAX and 0 <= self.end <= RATE_MAX):
            raise ValueError(f"A rate is 0 to {RATE_MAX:.0f} arrivals per second, not {self.start} to {self.end}.")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise ValueError(f"A piece of a load lasts up to {SECONDS_MAX:.0f} seconds, not {self.seconds}.")


Shape = tuple[Piece, ...]


def constant(rate: float, seconds: float) -> Shape:
    """The same rate all the time."""
    return (Piece(rate, rate, seconds),)


def ramp(start: float, end: float, seconds: float) -> Shape:
    """A rate that changes evenly."""
    return (Piece(start, end, seconds),)


def step(calm: float, high: float, calm_seconds: float, high_seconds: float) -> Shape:
    """Calm, then at once high, then calm again for as long as before."""
    return (*constant(calm, calm_seconds), *constant(high, high_seconds), *constant(calm, calm_seconds))


def seconds_of(shape: Shape) -> float:
    return sum(piece.seconds for piece in shape)


def rate_at(shape: Shape, second: float) -> float:
    """The ordered rate at a moment; 0 outside of the shape."""
    for piece in shape:
        if second < piece.seconds:
            return piece.start + (piece.end - piece.start) * second / piece.seconds
        second -= piece.seconds
    return 0.0


def arrival_times_us(shape: Sequence[Piece]) -> npt.NDArray[np.int64]:
    """The moments of all arrivals, in microseconds from the start, in order."""
    begin_s, times = 0.0, []
    for piece in shape:
        times.append(begin_s + _offsets_s(piece))
        begin_s += piece.seconds
    return (np.concatenate(times) * 1e6).astype(np.int64) if times else np.empty(0, np.int64)


def _offsets_s(piece: Piece) -> npt.NDArray[np.float64]:
    count = round((piece.start + piece.end) / 2 * piece.seconds)
    ordinal = np.arange(count, dtype=np.float64) + 0.5
    slope = (piece.end - piece.start) / piece.seconds
    if abs(slope) < 1e-9:
        return ordinal / piece.start if count else ordinal
    root = np.sqrt(np.maximum(piece.start**2 + 2 * slope * ordinal, 0.0))
    return np.minimum((root - piece.start) / slope, piece.seconds)
