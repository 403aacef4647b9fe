"""A real browser, and the stage that the page is shown on."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.console.stage import Stage, served

DIST = Path(__file__).parents[2] / "console" / "dist"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
QUIET = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium, as the system has it."""
    if not CHROMIUM:
        pytest.skip("no Chromium found: install `chromium`, or name one in CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """The contract's server with the built page."""
    if not (DIST / "index.html").exists():
        pytest.skip("the console is not built: run `make console`")
    async with served(DIST) as stage:
        yield stage
