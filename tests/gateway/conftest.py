"""One open door for each test that asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.gateway.door import Door, opened


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """A door in front of a library."""
    async with opened(tmp_path) as made:
        yield made
