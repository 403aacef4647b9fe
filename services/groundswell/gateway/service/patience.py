"""Waiting for an upstream that starts again, and not for one that is gone.

A killed process is back within a moment, and its callers rather wait than leave; but an outage must cost the door neither places nor
work. So in the first `PATIENCE_S` of an outage everybody waits for its end. Later a caller waits no longer than it takes to notice that
the outage is over, at most `PATIENT_MAX` do, and of those who wait one asks every `AGAIN_S`. Whoever waits has a time of its own, which
no other caller's luck makes longer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from groundswell.kernel import errors
from groundswell.kernel.clock import Clock

PATIENCE_S = 3.0
"""From the beginning of an outage. What failed longer ago than that is another outage."""
NOTICE_S_MAX = 1.5
"""From the end of an outage until callers notice: a channel's longest pause or its next look-up (`kernel.rpc`), and connecting."""
AGAIN_S = 0.05
PATIENT_MAX = 1_000
"""Callers who may wait; the next are refused at once."""

Answer = TypeVar("Answer")
Ask = Callable[[], Awaitable[Answer]]


class Outage:
    """The time in which something cannot be reached, as far as callers have seen it."""

    def __init__(self, now_s: float) -> None:
        self.since_s = self.last_s = now_s
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()

    async def turn(self, seconds: float) -> bool:
        """Waits until it is the caller's turn to ask, or somebody else got an answer; False when the time was over before."""
        try:
            async with asyncio.timeout(seconds), self._turn:
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_S):
                        await self._over.wait()
        except TimeoutError:
            return False
        return True

    def end(self) -> None:
        """Lets all ask."""
        self._over.set()


class Patience:
    """Asks, and knows what cannot be reached; one per process. What is asked has a name: a method's, say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        """What one is says nothing of another."""
        self._waiting = 0

    async def asked(self, name: str, ask: Ask[Answer], again: type[errors.Unreachable] = errors.Unreachable) -> Answer:
        """What `ask` gives; while that is an error `again` it is asked again, for as long as a caller should wait.

        What may not be repeated is asked again when it is `Unsent`. Raises what `ask` raises.
        """
        until_s: float | None = None
        while True:
            try:
                return await self.tried(name, ask)
            except again:
                outage, now_s = self._outages[name], self._clock.monotonic_s()
                if until_s is None:
                    until_s = max(outage.since_s + PATIENCE_S, now_s + NOTICE_S_MAX)
                if not await self._may_ask(outage, until_s - now_s):
                    raise

    async def tried(self, name: str, ask: Ask[Answer]) -> Answer:
        """What `ask` gives at once, and the memory of whether it could be reached: any answer says so, also a refusal."""
        try:
            answer = await ask()
        except errors.Unreachable:
            self._failed(name)
            raise
        except errors.DeadlineExceeded:
            raise  # nobody knows whether somebody was there
        except errors.Error:
            self._answered(name)
            raise
        self._answered(name)
        return answer

    async def _may_ask(self, outage: Outage, seconds: float) -> bool:
        """Waits for the caller's turn; False at once where too many wait or the time is over."""
        if self._waiting >= PATIENT_MAX or seconds <= 0:
            return False
        self._waiting += 1
        try:
            return await outage.turn(seconds)
        finally:
            self._waiting -= 1

    def _failed(self, name: str) -> None:
        now_s = self._clock.monotonic_s()
        outage = self._outages.get(name)
        if outage is None or now_s - outage.last_s > PATIENCE_S:
            self._answered(name)
            outage = self._outages[name] = Outage(now_s)
        outage.last_s = now_s

    def _answered(self, name: str) -> None:
        if outage := self._outages.pop(name, None):
            outage.end()
