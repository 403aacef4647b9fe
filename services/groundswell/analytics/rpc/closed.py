"""Answers over closed ranges, kept for a minute.

A range is closed a minute after its end. That alone says nothing of its rows: while the writer is away they lie in the log. So an answer
is kept only when the store held all that the log had when the range closed; whatever comes later is late, and shows a minute late.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from groundswell.kernel import errors
from groundswell.kernel.clock import Clock

KEPT_S = 60.0
CLOSED_MS = 60_000

A = TypeVar("A")


class Log(Protocol):
    """What is asked of the log."""

    async def offsets_at(self, moment_ms: int) -> list[int]:
        """For each partition the first offset that came at or after the moment; raises `Unavailable`."""
        ...


class ClosedAnswers(Generic[A]):
    """The newest `answers_max` of them."""

    def __init__(self, log: Log, clock: Clock, answers_max: int) -> None:
        self._log, self._clock, self._answers_max = log, clock, answers_max
        self._kept: OrderedDict[tuple[int, bytes], tuple[float, A]] = OrderedDict()

    def get(self, tenant: int, question: bytes) -> A | None:
        """The kept answer to the tenant's question."""
        known = self._kept.get((tenant, question))
        return known[1] if known and known[0] > self._clock.monotonic_s() else None

    async def offer(self, tenant: int, question: bytes, answer: A, end_ms: int, as_of: Sequence[int]) -> None:
        """Keeps the answer over a range that ends at `end_ms` if it is final; it holds each partition of the log up to `as_of`."""
        if end_ms + CLOSED_MS > self._clock.now_ms() or not await self._is_whole(end_ms + CLOSED_MS, as_of):
            return
        self._kept.pop((tenant, question), None)
        self._kept[tenant, question] = self._clock.monotonic_s() + KEPT_S, answer
        if len(self._kept) > self._answers_max:
            self._kept.popitem(last=False)

    async def _is_whole(self, closed_ms: int, as_of: Sequence[int]) -> bool:
        try:
            needed = await self._log.offsets_at(closed_ms)
        except errors.Unavailable:
            return False
        return len(as_of) == len(needed) and all(has >= needs for has, needs in zip(as_of, needed, strict=True))
