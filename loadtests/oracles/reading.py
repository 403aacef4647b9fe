"""Reads the books until they are quiet and right, or until patience ends.

Being right once is not enough: a doubled click may still be on its way. So the books must hold, unchanged, for a few
seconds; when they do not hold in time, the last reading is what is judged. Of a control, whose books are never right, what is
judged is what has not changed for long: books that are merely late are no proof.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from loadtests.oracles.books import ROLLUPS, Books, Promised, judge
from loadtests.platform.api import Door, Link
from loadtests.platform.installation import PlatformFailed

PATIENCE_S = 60.0
STEADY_S = 3.0
WRONG_STEADY_S = 15.0
"""Longer than whatever writes the books may pause: rollups rest for 8 s, totals for 10, and the place of a dead member stays 10 s."""
PAUSE_S = 0.5
CONCURRENCY = 16


class Settled(NamedTuple):
    """The last reading, the seconds that it took to come, and whether it stood still."""

    books: Books
    after_s: float
    steady: bool


async def settled(door: Door, links: Sequence[Link], promised: Promised, wrong_steady_s: float = math.inf) -> Settled:
    """Waits until the books are right for good, or have stood still although wrong for `wrong_steady_s`, or patience ends. Raises
    `PlatformFailed`, `httpx.HTTPError`."""
    begin_s = since_s = time.monotonic()
    before: Books | None = None
    while True:
        books, now_s = await _tried(door, links, begin_s + PATIENCE_S), time.monotonic()
        if books != before:
            before, since_s = books, now_s
        is_right = all(finding.holds for finding in judge(promised, books))
        if now_s - since_s >= (STEADY_S if is_right else wrong_steady_s):
            return Settled(books, since_s - begin_s, True)
        if now_s - begin_s > PATIENCE_S:
            return Settled(books, (since_s if is_right else now_s) - begin_s, False)
        await asyncio.sleep(PAUSE_S)


async def _tried(door: Door, links: Sequence[Link], end_s: float) -> Books:
    """One reading; a part that is still coming back is asked again until `end_s`."""
    while True:
        try:
            return await _read(door, links)
        except (PlatformFailed, httpx.HTTPError):
            if time.monotonic() > end_s:
                raise
        await asyncio.sleep(PAUSE_S)


async def _read(door: Door, links: Sequence[Link]) -> Books:
    turn = asyncio.Semaphore(CONCURRENCY)

    async def clicks(link: Link) -> tuple[int, int]:
        async with turn:
            told = await door.clicks(link)
        return told.total, told.bots

    by_item, balance, live = await asyncio.gather(door.stored_by_item(), door.balance(), door.look())
    of_links = await asyncio.gather(*(clicks(link) for link in links))
    return Books(
        stored=balance.stored,
        stored_by_target=[by_item.get(link.id, 0) for link in links],
        **{name: getattr(balance, name) for name in ROLLUPS},
        click_count=sum(total for total, _ in of_links),
        click_count_by_target=[total for total, _ in of_links],
        bot_count=sum(bots for _, bots in of_links),
        live=live.window_events,
        difference=balance.difference,
        parked=balance.parked,
        duplicates=balance.duplicates,
    )
