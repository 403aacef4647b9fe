"""A real browser, and the stage that the page is shown on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser import browser as browser
from tests.console.stage import Stage, served

DIST = Path(__file__).parents[2] / "console" / "dist"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """The contract's server with the built page."""
    if not (DIST / "index.html").exists():
        pytest.skip("the console is not built: run `make console`")
    async with served(DIST) as stage:
        yield stage
