"""Time as a collaborator, so that a test can hold or move it.

A laptop that sleeps stops its monotonic clock, on which whoever waits should count: it was not awake to wait. What ends by itself, such as
the life of an answer, has to be counted on a clock that goes on.
"""

import time
from typing import Protocol

_GOING_ON = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux names a clock that goes on while the machine sleeps; on macOS the one of this name does."""


def lasting_s() -> float:
    """Seconds on a clock that never goes back and goes on while the machine sleeps; only differences mean anything."""
    return time.clock_gettime(_GOING_ON)


class Clock(Protocol):
    """Wall time, monotonic time, and time that also passes in sleep."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def lasting_s(self) -> float:
        """The same on a clock that goes on while the machine sleeps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def lasting_s(self) -> float:
        return lasting_s()
