"""Time in the hands of a test."""


class HeldClock:
    """A clock that stands where it is put."""

    def __init__(self, now_ms: int) -> None:
        self.at_ms = now_ms

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_s(self) -> float:
        return self.at_ms / 1000

    def lasting_s(self) -> float:
        return self.at_ms / 1000
