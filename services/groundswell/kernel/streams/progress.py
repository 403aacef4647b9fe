"""How far a stream has come: what stands still, and as of when all of the log is handled."""

import time
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition

Ends = Mapping[TopicPartition, int]
"""Offsets by partition."""


class Movement:
    """When each partition moved last, or had nothing to read."""

    def __init__(self, stall_s_max: float) -> None:
        self._stall_s_max = stall_s_max
        self._moved: dict[TopicPartition, tuple[int, float]] = {}

    def looked(self, ends: Ends, reached: Ends, now_s: float) -> list[int]:
        """The partitions that have stood still for too long; one of which nothing is known counts as such."""
        before, self._moved = self._moved, {}
        for tp, end in ends.items():
            offset = reached.get(tp, -1)
            at, since_s = before.get(tp, (offset, now_s))
            self._moved[tp] = (offset, since_s if offset == at and offset < end else now_s)
        return [tp.partition for tp, (_, since_s) in self._moved.items() if now_s - since_s > self._stall_s_max]


class Completeness:
    """As of when all of the log is handled. An end that is not reached yet is kept until it is, while newer ones are passed over."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._waiting: tuple[float, Ends] | None = None

    def looked(self, asked_s: float, ends: Ends, reached: Ends) -> None:
        """The log ended at `ends` when it was asked at `asked_s`; all below `reached` is handled now."""
        newest = (asked_s, ends)
        for look in (newest, self._waiting):
            if (
                look is not None
                and look[1].keys() == reached.keys()
                and all(reached[tp] >= look[1][tp] for tp in reached)
            ):
                self._tell(time.monotonic() - look[0])
                self._waiting = None
                break
        if self._waiting is None or self._waiting[1].keys() != ends.keys():
            self._waiting = newest
