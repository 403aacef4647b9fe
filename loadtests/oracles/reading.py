"""Reads the books until they are quiet and right, or until patience ends.

Being right once is not enough: a doubled click may still be on its way. So the books must hold, unchanged, for a few
seconds; when they do not hold in time, the last reading is what is judged.
"""

import asyncio
import time
from collections.abc import Sequence

import httpx

from loadtests.oracles.books import Books, Promised, judge
from loadtests.platform.api import Door, Link
from loadtests.platform.installation import PlatformFailed

PATIENCE_S = 60.0
STEADY_S = 3.0
PAUSE_S = 0.5
CONCURRENCY = 16


async def settled(
    door: Door, links: Sequence[Link], promised: Promised, patience_s: float = PATIENCE_S
) -> tuple[Books, float]:
    """The books, and after how many seconds they were right for good (or patience ended). Raises `PlatformFailed`, `httpx.HTTPError`."""
    begin_s = time.monotonic()
    right_since_s, right = begin_s, None
    while True:
        books, now_s = await _tried(door, links, begin_s + patience_s), time.monotonic()
        if books != right:
            is_right = all(finding.holds for finding in judge(promised, books))
            right_since_s, right = now_s, books if is_right else None
        is_steady = right is not None and now_s - right_since_s >= STEADY_S
        if is_steady or now_s - begin_s > patience_s:
            return books, right_since_s - begin_s
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
        rollup_second=balance.rollup_second,
        rollup_minute=balance.rollup_minute,
        rollup_hour=balance.rollup_hour,
        totals=balance.totals,
        click_count=sum(total for total, _ in of_links),
        click_count_by_target=[total for total, _ in of_links],
        bot_count=sum(bots for _, bots in of_links),
        live=live.window_events,
        difference=balance.difference,
        parked=balance.parked,
        duplicates=balance.duplicates,
    )
