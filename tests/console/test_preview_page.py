"""The page in a redirect's place, in a real browser: it shows what it should, loads nothing, and is left by one link."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser

from tests.gateway.door import opened, pb

LONG = "https://xn--80ak6aa92e.com/" + "a" * 4_000
PHONE_WIDTH = 360


async def background(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> str:
    """Looks at the page in a fresh profile on a phone; returns the colour behind it."""
    context = await browser.new_context(viewport={"width": PHONE_WIDTH, "height": 780}, color_scheme=scheme)
    page = await context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(url)
    assert await page.locator(".host").inner_text() == "xn--80ak6aa92e.com"
    assert await page.locator("b").inner_text() == "аррӏе.com"
    assert await page.get_by_role("link").get_attribute("href") == LONG
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH
    colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (asked, complaints) == ([url], [])
    await context.close()
    return str(colour)


@pytest.mark.promise("LINKS-6")
async def test_the_page_is_readable_on_a_phone_by_day_and_by_night_and_asks_for_nothing_else(
    browser: Browser, tmp_path: Path
) -> None:
    """Its own style passes its policy, nothing is wider than the screen, and the browser has nothing to complain of."""
    async with opened(tmp_path) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location=LONG, preview=True)
        by_day = await background(browser, f"{door.url}/abc", "light")
        assert await background(browser, f"{door.url}/abc", "dark") != by_day
