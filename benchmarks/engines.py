"""The engines of a benchmark: started for it, ended with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.engines import running
from groundswell.engines.engine import Engine


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[None]:
    """An engine that answers."""
    engine.prepare(print)
    child = await running.start(engine)
    try:
        yield
    finally:
        if child is not None:
            await child.stop()
