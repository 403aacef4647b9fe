"""Starts engines and waits until they answer: what the supervisor does for a home, and a test session for itself."""

import asyncio
import time

from groundswell.engines.children import POLL_S, Child, log_end
from groundswell.engines.engine import Engine
from groundswell.engines.errors import EngineError

START_S_MAX = 60.0


async def start(engine: Engine) -> Child | None:
    """Starts the prepared engine and waits for its first answer; None when it has no process.

    Raises `EngineError` with the end of its log when it dies or stays silent for a minute.
    """
    launch = engine.launch()
    if launch is None:
        return None
    child = Child(launch)
    try:
        await until_healthy(engine, child)
    except BaseException:
        child.kill()
        raise
    return child


async def until_healthy(engine: Engine, child: Child) -> None:
    """Waits until the started engine answers; raises `EngineError`."""
    deadline = time.monotonic() + START_S_MAX
    while not await engine.healthy():
        if child.exit_code is not None:
            raise EngineError(
                f"{engine.name} ended with code {child.exit_code} while it started. Its log ends with:\n{log_end(child.launch.log)}"
            )
        if time.monotonic() > deadline:
            raise EngineError(
                f"{engine.name} did not answer within {START_S_MAX:.0f} s. Its log ends with:\n{log_end(child.launch.log)}"
            )
        await asyncio.sleep(POLL_S * 3)
