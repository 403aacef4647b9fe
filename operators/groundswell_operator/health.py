"""What probes and Prometheus ask: whether anything progresses, and the figures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

STALLED_S = 90.0
"""Three times the longest that a request may take: who has done nothing for so long hangs."""


@asynccontextmanager
async def served(
    bind: str, port: int, progressed_s: Callable[[], float], figures: Callable[[], bytes]
) -> AsyncIterator[None]:
    """Answers /healthz, /readyz and /metrics. `progressed_s` is when something was last done (monotonic)."""

    async def alive(_: web.Request) -> web.Response:
        idle_s = time.monotonic() - progressed_s()
        return web.Response(status=200 if idle_s < STALLED_S else 503, text=f"progressed {idle_s:.1f} s ago\n")

    async def measured(_: web.Request) -> web.Response:
        return web.Response(body=figures(), content_type="text/plain")

    application = web.Application()
    application.router.add_get("/healthz", alive)
    application.router.add_get("/readyz", alive)
    application.router.add_get("/metrics", measured)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, bind or None, port).start()
        yield
    finally:
        await runner.cleanup()
