"""What the door promised of each link, and whether the links say the same of themselves.

An answer that never came may stand for a click that was counted, so the rule is the one of the books, for every link by
itself: promised ≤ click_count ≤ promised + unknown.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence

from loadtests.generator.log import BY_VIEW, PROMISED
from loadtests.oracles.books import COUNTER_EXAMPLES_MAX
from loadtests.platform.api import Door, Link

POLL_S = 0.5
CONCURRENCY = 16


class Accounts:
    """The links of one run, the most popular first, and what was answered to those who opened them."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links: list[Link] = []
        self.promised: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._weights: list[float] = []
        for link in links:
            self.add(link)

    def add(self, link: Link) -> None:
        """A further link, less popular than all before: by Zipf's law the n-th is opened 1/n times as often as the first."""
        self.links.append(link)
        self._weights.append((self._weights[-1] if self._weights else 0.0) + 1 / len(self.links))

    def drawn(self, chance: random.Random) -> Link:
        return chance.choices(self.links, cum_weights=self._weights)[0]

    def redirected(self, link: Link, view: str) -> None:
        """A visitor was sent on, with that `Groundswell-View`."""
        if BY_VIEW.get(view.encode()) in PROMISED:
            self.promised[link.id] += 1

    def unanswered(self, link: Link) -> None:
        self.unknown[link.id] += 1

    def differences(self, counted: Sequence[int]) -> list[str]:
        """A sentence for each link whose count, in the order of `links`, is not what was promised."""
        return [
            f"link {link.id}: click_count {count}, but {self.promised[link.id]} promised and {self.unknown[link.id]} unknown"
            for link, count in zip(self.links, counted, strict=True)
            if not 0 <= count - self.promised[link.id] <= self.unknown[link.id]
        ]


async def verdict(accounts: Accounts, door: Door, patience_s: float, steady_s: float) -> list[str]:
    """What is wrong: nothing once all counts were right for `steady_s`, since a doubled click may still be on its way.

    After `patience_s` the last reading is what is judged. Raises `PlatformFailed`, `httpx.HTTPError`.
    """
    if not accounts.promised.total():
        return ["no visit was answered as counted or spooled, so nothing is shown"]
    begin_s, right_since_s = time.monotonic(), None
    for reading in itertools.count(1):
        wrong = accounts.differences(await _read(accounts.links, door))
        now_s = time.monotonic()
        right_since_s = None if wrong else right_since_s or now_s
        if right_since_s is not None and reading > 1 and now_s - right_since_s >= steady_s:
            break
        if now_s - begin_s > patience_s:
            break
        await asyncio.sleep(POLL_S)
    return wrong[:COUNTER_EXAMPLES_MAX]


async def _read(links: Sequence[Link], door: Door) -> list[int]:
    turn = asyncio.Semaphore(CONCURRENCY)

    async def clicks(link: Link) -> int:
        async with turn:
            return (await door.clicks(link)).total

    return await asyncio.gather(*(clicks(link) for link in links))
