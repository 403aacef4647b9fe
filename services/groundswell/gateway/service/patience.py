"""Waiting for an upstream that starts again, and not for one that is gone.

A killed process is back within a moment, and its visitors rather wait than leave; but an outage must cost the door neither places nor
work. So in the first `PATIENCE_S` of an outage everybody waits for its end. Later a caller waits no longer than it takes to notice that
the outage is over (a channel pauses between its tries to connect), at most `PATIENT_MAX` do, and of those who wait one at a time asks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from groundswell.kernel import errors
from groundswell.kernel.clock import Clock

PATIENCE_S = 3.0
"""From the beginning of an outage."""
NOTICE_S_MAX = 0.8
"""From the end of an outage until the upstream is called again: a channel's longest pause (`kernel.rpc`), and connecting."""
AGAIN_S = 0.05
PATIENT_MAX = 1_000
"""Callers who may wait; the next are refused at once."""

Answer = TypeVar("Answer")
Ask = Callable[[], Awaitable[Answer]]


class Outage:
    """The time in which an upstream cannot be reached."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()

    async def turn(self, seconds: float) -> None:
        """Waits until it is the caller's turn to ask, or somebody else got an answer, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._turn, asyncio.timeout(AGAIN_S):
                await self._over.wait()

    def end(self) -> None:
        """Lets all ask."""
        self._over.set()


class Patience:
    """Asks upstreams, and knows which of them cannot be reached; one per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        """By the upstream's name; what one is says nothing of another."""
        self._patient = 0

    async def asked(
        self, upstream: str, ask: Ask[Answer], again: type[errors.Unreachable] = errors.Unreachable
    ) -> Answer:
        """What `ask` gives; while that is an error `again` it is asked again, for as long as a caller should wait.

        What may not be repeated is asked again when it is `Unsent`. Raises what `ask` raises.
        """
        if self._patient >= PATIENT_MAX:
            return await self.tried(upstream, ask)
        began_s = self._clock.monotonic_s()
        self._patient += 1
        try:
            while True:
                try:
                    return await self.tried(upstream, ask)
                except again:
                    outage = self._outages[upstream]
                    until_s = max(outage.since_s + PATIENCE_S, began_s + NOTICE_S_MAX)
                    left_s = until_s - self._clock.monotonic_s()
                    if left_s <= 0:
                        raise
                await outage.turn(left_s)
        finally:
            self._patient -= 1

    async def tried(self, upstream: str, ask: Ask[Answer]) -> Answer:
        """What `ask` gives at once, and the memory of whether its upstream could be reached: any answer says so, also a refusal."""
        try:
            answer = await ask()
        except errors.Unreachable:
            self._outages.setdefault(upstream, Outage(self._clock.monotonic_s()))
            raise
        except errors.Error:
            self._ended(upstream)
            raise
        self._ended(upstream)
        return answer

    def _ended(self, upstream: str) -> None:
        if outage := self._outages.pop(upstream, None):
            outage.end()
