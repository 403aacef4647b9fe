"""What goes on beside the calls: looking whether the engines are back."""

import asyncio

from groundswell.links.service.redirects import Redirects

LOOK_S = 1.0


async def look_for_engines(redirects: Redirects) -> None:
    """Asks while nothing can be redirected, until cancelled: who is not ready gets no visitors, whose calls would show it."""
    while True:
        await asyncio.sleep(LOOK_S)
        if not redirects.possible():
            await redirects.look()
