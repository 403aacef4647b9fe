"""A clock for tests that cannot wait."""

from dataclasses import dataclass


@dataclass
class Hand:
    """A clock that the test moves."""

    now_s: float = 1_000.0
    asleep_s: float = 0.0
    """How long the machine has slept."""

    def now_ms(self) -> int:
        return int(self.lasting_s() * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def lasting_s(self) -> float:
        return self.now_s + self.asleep_s
