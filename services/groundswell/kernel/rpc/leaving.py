"""How a server leaves without losing a call: it says so first, and ends once nobody calls it any more.

gRPC's own stop cancels calls that arrive while it begins. So callers watch the health of each server behind a name (their channel's
`healthCheckConfig`): one that no longer serves is called no more within a moment, while it still answers what was on its way.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

QUIET_S = 0.25
"""Without a call: then all who watch have heard."""
NOTICE_S_MAX = 3.0
"""Who does not hear in that time, or calls without watching, is not waited for."""
POLL_S = 0.02


class Health(aio.HealthServicer):
    """The health that callers watch; their watches end with the server, or it would wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()
        self._watches = 0

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watching, ending = (
            asyncio.ensure_future(each) for each in (super().Watch(request, context), self._ended.wait())
        )
        self._watches += 1
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watches -= 1
            for each in (watching, ending):
                each.cancel()
            await asyncio.gather(watching, ending, return_exceptions=True)

    async def leave(self, called_s: Callable[[], float]) -> None:
        """Says that it serves no longer, and returns once nobody has called for a moment; `called_s` is when the last call came."""
        await self.enter_graceful_shutdown()
        if not self._watches:
            return
        began_s = time.monotonic()
        while (now_s := time.monotonic()) - began_s < NOTICE_S_MAX and now_s - max(called_s(), began_s) < QUIET_S:
            await asyncio.sleep(POLL_S)

    def end(self) -> None:
        """Ends all watches."""
        self._ended.set()
