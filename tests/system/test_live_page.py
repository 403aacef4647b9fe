"""The live page of the real platform in a real browser, while a link goes viral and the gateway that serves the page is killed.

The load takes `LIVE_PAGE_S` seconds, 12 unless the environment says otherwise. The page is photographed at the height of it:
`make picture` has a minute of it, and puts the picture into the README.
"""

import asyncio
import itertools
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from loadtests import demo, scenario
from loadtests.generator.child import Progress
from loadtests.oracles.freshness import Sample
from loadtests.platform.installation import Installation
from loadtests.scenario import Ran

pytestmark = pytest.mark.alone

SECONDS = float(os.environ.get("LIVE_PAGE_S", "12"))
LINKS = 5
PICTURE_SHARE = 0.72
"""When of the load the page is photographed: the gateway is long back, and the visits have not begun to fall."""
SHOWN_S_MAX = 20.0
DESK: ViewportSize = {"width": 1280, "height": 860}
PROOFS = Path(__file__).parents[2] / ".proof"


@pytest.mark.promise("LINKS-5")
async def test_a_person_reads_every_visit_of_a_viral_link_from_the_page(browser: Browser, home: Path) -> None:
    """Goal: what a browser shows is what the books say. Method: the number is read while visits flow, and compared once they end."""
    platform = Installation(home)
    await platform.up("each", port=0)
    tenant = await scenario.prepare(platform, "watched", LINKS)
    await scenario.warm(platform, tenant)
    plan, kills = demo.plan_of(SECONDS, seed=1), demo.kills_of(SECONDS, ("gateway",))
    url = platform.credentials().url
    page = await browser.new_page(viewport=DESK)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{url}/#key={tenant.key}")
    reader = _Reader(page)
    reading = asyncio.create_task(reader.run())
    try:
        ran = await scenario.run(platform, tenant, plan, kills, home.parent, reader.hear, print)
    finally:
        reading.cancel()
    assert all(finding.holds for finding in ran.findings), ran.findings
    await _shows(page, ran)
    rises = [later for earlier, later in itertools.pairwise(reader.numbers) if later > earlier]
    assert len(rises) > SECONDS / 4, reader.numbers
    assert not errors
    assert set(asked) == {urlsplit(url).netloc}


class _Reader:
    """Reads what the page counts, four times a second, and takes its picture while the load is high."""

    def __init__(self, page: Page) -> None:
        self._page, self._elapsed_s = page, 0.0
        self.numbers: list[int] = []

    def hear(self, progress: Progress, _: Sample | None) -> None:
        self._elapsed_s = progress.elapsed_s

    async def run(self) -> None:
        pictured = False
        while True:
            shown = await self._page.get_by_test_id("window-events").get_attribute("data-value")
            self.numbers.append(int(shown or 0))
            if not pictured and self._elapsed_s >= SECONDS * PICTURE_SHARE:
                PROOFS.mkdir(exist_ok=True)
                await self._page.screenshot(path=PROOFS / "live.png")
                pictured = True
            await asyncio.sleep(0.25)


async def _shows(page: Page, ran: Ran) -> None:
    books = ran.books
    viral = str(books.stored_by_target[0])
    for name, value in (
        ("window-events", books.stored),
        ("stored", books.stored),
        ("totals", books.stored),
        ("difference", 0),
        ("top-item-1", viral),
    ):
        await expect(page.get_by_test_id(name)).to_have_attribute("data-value", str(value), timeout=SHOWN_S_MAX * 1000)
    await expect(page.get_by_test_id("process-gateway")).to_have_attribute("data-restarts", "1")
    await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    await expect(page.get_by_test_id("alarm")).to_have_count(0)
