"""Waiting for what takes no known time."""

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Looks until it holds; raises `TimeoutError` when it does not in five seconds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)
