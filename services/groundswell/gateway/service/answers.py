"""Answering from what is kept, and asking upstream once for all who wait.

Why a kept answer is never old: every change publishes an event that purges its tags; the feed of those events says how far behind
it may be; beyond the bound nothing kept is served, and once the feed is near again nothing from before is kept. A fill that a purge
overtakes is asked again before it is kept. What belongs to a suspended tenant is kept, but not served until the tenant is resumed:
its service is asked, and judges.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial

from groundswell.gateway.model.answers import Alias, Answer, Key, NearCache
from groundswell.gateway.service.patience import Ask, Patience
from groundswell.kernel import errors
from groundswell.kernel.clock import Clock

FILL_TRIES_MAX = 3
UNKEPT_S = 5.0
UNKEPT_MAX = 10_000
STALE_RETRY_S = 0.5
"""While an upstream is down, one caller in this time finds out whether it is back; the others get the stale answer at once."""


class Verdict(Enum):
    """How an answer came about, in the words of RFC 9211."""

    HIT = "hit"
    MISS = "fwd=miss"
    STALE = "hit; detail=stale-if-error"
    BYPASS = "fwd=bypass"


class Answers:
    """Kept answers and the calls that fill them; one per process."""

    def __init__(
        self,
        cache: NearCache,
        patience: Patience,
        clock: Clock,
        feed_lag_s: Callable[[], float],
        feed_lag_s_max: float,
        suspended: AbstractSet[int] = frozenset(),
    ) -> None:
        self.cache = cache
        self._patience = patience
        self._clock = clock
        self._feed_lag_s = feed_lag_s
        self._feed_lag_s_max = feed_lag_s_max
        self._suspended = suspended
        self._flights: dict[Key, asyncio.Task[Answer]] = {}
        self._unkept: dict[Key, float] = {}

    def now_s(self) -> float:
        """The moment, on the clock by which lives of answers are counted."""
        return self._clock.lasting_s()

    def trusted(self) -> bool:
        """Whether the purge feed is near enough to serve what is kept."""
        return self._feed_lag_s() <= self._feed_lag_s_max

    def hit(self, alias: Alias) -> Answer | None:
        """The hot path: a fresh answer for a request exactly like an earlier one."""
        answer = self.cache.by_alias.get(alias)
        if answer is None or answer.fresh_until_s <= self.now_s() or not self._servable(answer):
            return None
        answer.visited = True
        return answer

    async def answer(
        self, key: Key, ask: Ask[Answer], require_room: Callable[[], None] = lambda: None
    ) -> tuple[Answer, Verdict]:
        """The answer to the request named `key`: kept, or from `ask`, which runs once for all who wait.

        Who would have to wait needs room first. Raises what `ask` and `require_room` raise; `Unavailable` and `DeadlineExceeded` only
        when no stale answer may stand in.
        """
        kept = self.cache.find(key)
        if kept is not None and not self._servable(kept):
            kept = None
        now_s = self.now_s()
        if kept is not None and kept.fresh_until_s > now_s:
            return kept, Verdict.HIT
        if kept is not None and now_s < min(kept.retry_s, kept.stale_until_s):
            return kept, Verdict.STALE
        try:
            require_room()
        except errors.Unavailable:
            if kept is None or kept.stale_until_s <= now_s:
                raise
            return kept, Verdict.STALE
        if self._unkept.get(key, 0.0) > now_s:
            return await self._patience.asked(key[1], ask), Verdict.MISS
        return await self._filled(key, ask, kept)

    def _servable(self, answer: Answer) -> bool:
        if self._suspended and answer.counted is not None and answer.counted.tenant in self._suspended:
            return False
        return self.trusted()

    async def _filled(self, key: Key, ask: Ask[Answer], kept: Answer | None) -> tuple[Answer, Verdict]:
        flight = self._flights.get(key)
        leads = flight is None
        if flight is None:
            # While something may stand in, nobody waits.
            asked = self._patience.tried if kept else self._patience.asked
            flight = asyncio.create_task(self._fill(key, partial(asked, key[1], ask)))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        try:
            answer = await asyncio.shield(flight)
        except (errors.Unavailable, errors.DeadlineExceeded):
            now_s = self.now_s()
            if (
                kept is None
                or kept.stale_until_s <= now_s
                or self.cache.find(key) is not kept
                or not self._servable(kept)
            ):
                raise
            kept.retry_s = now_s + STALE_RETRY_S
            return kept, Verdict.STALE
        if not (answer.kept or leads):
            # An answer that may not be kept was meant for one caller: another visit may be another answer.
            answer = await self._patience.asked(key[1], ask)
        return answer, Verdict.MISS if self.trusted() else Verdict.BYPASS

    async def _fill(self, key: Key, ask: Ask[Answer]) -> Answer:
        for _ in range(FILL_TRIES_MAX):
            purges = self.cache.purges
            answer = await ask()
            if not answer.kept:
                self._remember_unkept(key)
                return answer
            if not self.cache.purged_since(answer.tags, purges):
                self.cache.keep(key, answer)
                return answer
        return answer

    def _landed(self, key: Key, flight: "asyncio.Task[Answer]") -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # read here, in case everybody who waited has left

    def _remember_unkept(self, key: Key) -> None:
        if len(self._unkept) >= UNKEPT_MAX:
            self._unkept.pop(next(iter(self._unkept)))
        self._unkept[key] = self.now_s() + UNKEPT_S

    def purge(self, tag: str) -> None:
        """Forgets every answer that carries `tag`."""
        self.cache.purge(tag)

    def sweep(self) -> None:
        """Forgets what can serve nobody any more."""
        now_s = self.now_s()
        self.cache.sweep(now_s)
        for key in [key for key, until_s in self._unkept.items() if until_s <= now_s]:
            del self._unkept[key]
