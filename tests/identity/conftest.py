"""A database of identity, and a clock that a test holds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from groundswell import identity
from groundswell.kernel import clock, ids, postgres
from tests.clocks import HeldClock


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[postgres.Database]:
    dsn = await postgres.migrate(postgres_dsn, "identity", Path(identity.__path__[0]) / "migrations", b"k" * 32)
    async with postgres.opened(dsn, ids.Ids(clock.SystemClock())) as opened:
        yield opened


@pytest.fixture
def now() -> HeldClock:
    return HeldClock(clock.SystemClock().now_ms())
