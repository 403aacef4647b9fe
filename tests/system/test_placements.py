"""The whole platform in both placements: a link goes viral while processes are killed, and every number is equal."""

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from loadtests import scenario
from loadtests.platform.api import Door, Link
from loadtests.platform.installation import Installation, PlatformFailed

pytestmark = pytest.mark.alone

SECONDS = 16
BACK_S_MAX = 15.0
SPOOLED = 5
COUNTED_S_MAX = 60.0


@pytest.mark.promise("ANALYTICS-2", "LINKS-5")
@pytest.mark.parametrize("topology", ["all", "each"])
async def test_the_demo_ends_with_equal_numbers_and_leaves_no_process(home: Path, topology: str) -> None:
    """Goal: placement changes no number. Method: the demo as its user runs it, shortened; then nobody may be left whose home this was."""
    told = home.parent / "verdict.json"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "loadtests", "demo", "--stop", "--seconds", str(SECONDS), "--topology", topology,
         "--home", str(home), "--port", "0", "--json", str(told)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    verdict = json.loads(told.read_text())
    numbers = {verdict[name] for name in ("stored", "rollups", "totals", "click_count", "live")}
    assert numbers == {verdict["stored"]}, done.stdout
    assert all(finding["holds"] for finding in verdict["findings"]), done.stdout
    assert verdict["answered"] > 5_000
    assert [kill["victim"] for kill in verdict["kills"]] == ["writer", "gateway", "kafka"]
    assert not [
        each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])
    ]


@pytest.mark.promise("LINKS-4")
async def test_one_process_that_holds_everything_redirects_again_while_an_engine_is_away(home: Path) -> None:
    """Goal: the small placement needs no engine to start either, though tenancy, identity and the store are in it."""
    platform = Installation(home)
    await platform.up("all", port=0)
    tenant = await scenario.prepare(platform, "alone", 5)
    await scenario.warm(platform, tenant)
    async with httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client:

        async def all_redirect() -> bool:
            try:
                answers = [await client.get(link.path, headers={"Host": link.host}) for link in tenant.links]
            except httpx.TransportError:
                return False
            return all(answer.status_code == 302 and "groundswell-view" in answer.headers for answer in answers)

        assert await all_redirect()
        for engine in ("kafka", "postgres", "valkey"):
            await platform.stop(engine)
            pid = platform.signal("all", signal.SIGKILL)
            async with asyncio.timeout(BACK_S_MAX):
                while not await all_redirect():
                    await asyncio.sleep(0.1)
            await platform.start(engine)
            await platform.ready("all", BACK_S_MAX, other_than=pid)
            assert await all_redirect()


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
        asyncio.timeout(BACK_S_MAX),
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
