"""A bulkhead: what redirects may ask of PostgreSQL at once, so that a cold cache can not drown it."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.kernel import errors

RUNNING_MAX = 6
"""Fewer than the pool has connections: management goes on while redirects queue."""
WAITING_MAX = 256
SECONDS_MAX = 1.5
"""Less than the two seconds that the door gives a redirect (`GATEWAY_CACHED_UPSTREAM_TIMEOUT_S`): the visitor is to hear that the database
does not answer, and when to come again. It is for all that one redirect waits for, one after the other."""


class Bulkhead:
    """At most `running` at a time and `waiting` in line, and none for longer than `seconds`; the next is refused at once."""

    def __init__(self, running: int = RUNNING_MAX, waiting: int = WAITING_MAX, seconds: float = SECONDS_MAX) -> None:
        self._slots = asyncio.Semaphore(running)
        self._waiting_max = waiting
        self._seconds = seconds
        self._waiting = 0
        self.up = True
        """Whether what is behind answered last time."""

    def until_s(self) -> float:
        """When somebody who begins to wait now has waited long enough, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self._seconds

    @asynccontextmanager
    async def entered(self, until_s: float = math.inf) -> AsyncIterator[None]:
        """A place in it; raises `Unavailable` when the line is full, or when the block takes too long or beyond `until_s`."""
        if self._slots.locked() and self._waiting >= self._waiting_max:
            raise errors.Unavailable("Too many are asking at once. Try again in a second.")
        try:
            async with told_by(min(until_s, self.until_s())):
                await self._slot()
                try:
                    yield
                finally:
                    self._slots.release()
            self.up = True
        except errors.Unavailable as error:
            self.up = False
            raise _unanswered() from error

    async def _slot(self) -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1


@asynccontextmanager
async def told_by(until_s: float) -> AsyncIterator[None]:
    """A wait for the database that is over at `until_s`, on the event loop's clock: `Unavailable`."""
    try:
        async with asyncio.timeout_at(until_s):
            yield
    except TimeoutError as error:
        raise _unanswered() from error


def _unanswered() -> errors.Unavailable:
    return errors.Unavailable("The database does not answer. Try again in a second.")
