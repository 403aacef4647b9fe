"""What a platform has spooled when it stops is counted after a start in another topology."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from loadtests import scenario
from loadtests.platform.api import Door, Link
from loadtests.platform.installation import Installation, PlatformFailed

SPOOLED = 5
SPOOLED_S_MAX, COUNTED_S_MAX = 60.0, 120.0
"""Other tests stand beside this one."""


@pytest.mark.promise("GATEWAY-8", "LINKS-5")
async def test_clicks_that_are_spooled_in_one_topology_are_counted_after_a_start_in_the_other(home: Path) -> None:
    """Goal: placement strands nothing. Method: there and back, each time with clicks that the log did not see before all was stopped."""
    platform, clicks = Installation(home), 0
    await platform.up("all", port=0)
    tenant = await scenario.prepare(platform, "moved", 1)
    await scenario.warm(platform, tenant)
    link = tenant.links[0]
    for topology in ("each", "all"):
        await platform.stop("kafka")
        await spooled(platform, link, SPOOLED)
        clicks += SPOOLED
        await platform.down()
        await platform.up(topology, port=None)
        async with Door(platform.credentials().url, tenant.key) as door:
            await until_settled(door, link, clicks)


async def spooled(platform: Installation, link: Link, clicks: int) -> None:
    """Clicks until so many were answered `spooled`, and none otherwise."""
    views: list[str] = []
    async with (
        httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client,
        asyncio.timeout(SPOOLED_S_MAX),
    ):
        while len(views) < clicks:
            answer = await client.get(link.path, headers={"Host": link.host})
            views += [answer.headers["groundswell-view"]] if answer.status_code == 302 else []
    assert set(views) == {"spooled"}


async def until_settled(door: Door, link: Link, clicks: int) -> None:
    """Waits until the link's total and the books have as many; more are told at once."""
    async with asyncio.timeout(COUNTED_S_MAX):
        while True:
            # A question may take too long while all of a platform starts; its caller tries again.
            with suppress(PlatformFailed, httpx.TransportError):
                total, balance = (await door.clicks(link)).total, await door.balance()
                assert max(total, balance.stored) <= clicks
                if (total, balance.stored, balance.difference) == (clicks, clicks, 0):
                    return
            await asyncio.sleep(0.1)
