"""The live page of the real platform in a real browser: the demo as its user runs it, and the page at the address that it prints.

The load takes `LIVE_PAGE_S` seconds, 16 unless the environment says otherwise. The page is photographed at the height of it:
`make picture` has a minute of it, and puts the picture into the README.
"""

import asyncio
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

pytestmark = pytest.mark.alone

SECONDS = float(os.environ.get("LIVE_PAGE_S", "16"))
PICTURE_SHARE = 0.66
"""When of the load the page is photographed: two victims are back, and the visits are at their height."""
SHOWN_S_MAX = 20.0
DESK: ViewportSize = {"width": 1280, "height": 860}
PROOFS = Path(__file__).parents[2] / ".proof"


@pytest.mark.promise("ANALYTICS-2", "LINKS-5")
async def test_a_person_reads_every_visit_of_a_viral_link_from_the_page(browser: Browser, home: Path) -> None:
    """Goal: what a browser shows is what the verdict says. Method: the number is read while visits flow and processes are killed, and
    compared once the verdict is there."""
    told = home.parent / "verdict.json"
    options = ["--seconds", str(SECONDS), "--topology", "each", "--home", str(home), "--port", "0", "--json", str(told)]
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests", "demo", *options, stdout=asyncio.subprocess.PIPE
    )
    assert demo.stdout is not None
    said, address = "", None
    while address is None:
        line = (await demo.stdout.readline()).decode()
        assert line, said
        said, address = said + line, re.search(r"http://\S+/#key=\S+", line)
    page = await browser.new_page(viewport=DESK)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(address[0])
    views: list[int] = []
    of_viral: list[int] = []
    reading = asyncio.create_task(_read(page, views, of_viral))
    try:
        said += (await demo.communicate())[0].decode()
    finally:
        reading.cancel()
    verdict = json.loads(told.read_text())
    assert all(finding["holds"] for finding in verdict["findings"]), said
    assert verdict["answered"] > 5_000
    await _shows(page, verdict)
    rises = [later for earlier, later in itertools.pairwise(views) if later > earlier]
    assert len(rises) > SECONDS / 4, views
    assert 0 < max(of_viral, default=0) <= verdict["stored"]
    assert not errors
    assert set(asked) == {urlsplit(address[0]).netloc}


async def _read(page: Page, views: list[int], of_viral: list[int]) -> None:
    """Reads what the page counts, of all links and of the first, four times a second, and takes its picture while the load is high."""
    for look in itertools.count():
        shown = await page.get_by_test_id("window-events").get_attribute("data-value")
        views.append(int(shown or 0))
        if await page.get_by_test_id("top-item-1").count():
            of_viral.append(int(await page.get_by_test_id("top-item-1").get_attribute("data-value") or 0))
        if look == int(4 * SECONDS * PICTURE_SHARE):
            PROOFS.mkdir(exist_ok=True)
            await page.screenshot(path=PROOFS / "live.png")
        await asyncio.sleep(0.25)


async def _shows(page: Page, verdict: dict[str, Any]) -> None:
    stored = str(verdict["stored"])
    for name, value in (("window-events", stored), ("stored", stored), ("totals", stored), ("difference", "0")):
        await expect(page.get_by_test_id(name)).to_have_attribute("data-value", value, timeout=SHOWN_S_MAX * 1000)
    for kill in verdict["kills"]:
        await expect(page.get_by_test_id(f"process-{kill['victim']}")).to_have_attribute("data-restarts", "1")
    await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    await expect(page.get_by_test_id("alarm")).to_have_count(0)
