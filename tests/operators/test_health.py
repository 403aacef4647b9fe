"""What a probe is told, on loopback."""

from __future__ import annotations

import time

import aiohttp
import pytest

from groundswell.engines import ports
from groundswell_operator.health import STALLED_S, served


@pytest.mark.parametrize(("idle_s", "status"), [(0.0, 200), (STALLED_S - 5, 200), (STALLED_S + 1, 503)])
async def test_who_makes_no_progress_for_too_long_is_not_alive_though_it_answers(idle_s: float, status: int) -> None:
    port, progressed_s = ports.draw(1)[0], time.monotonic() - idle_s
    async with (
        served("127.0.0.1", port, lambda: progressed_s, lambda: b"figures"),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as asking,
    ):
        for path in ("/healthz", "/readyz"):
            async with asking.get(path) as answer:
                assert answer.status == status
        async with asking.get("/metrics") as answer:
            assert await answer.text() == "figures"
