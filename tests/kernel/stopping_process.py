"""A process of one module, run as any is: told so, its start hangs or its work dies, and a call of it lasts until the process leaves."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.api.identity.v1 import identity_pb2
from groundswell.kernel import modules, rpc
from groundswell.kernel.resources import Resources
from tests.kernel.test_resources import Identity

HANGS, FAILS, CANCELLED = "hangs", "fails", "cancelled by nobody"
CALL_S = 1.0


def say(word: str) -> None:
    print(word, flush=True)


class Slow(Identity):
    """Answers one call a second after the process was told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = asyncio.Event()

    async def VerifyApiKey(  # type: ignore[override]  # the kernel hands servicers its own `Call`
        self, request: identity_pb2.VerifyApiKeyRequest, call: rpc.Call
    ) -> identity_pb2.VerifyApiKeyResponse:
        say("called")
        await self.draining.wait()
        await asyncio.sleep(CALL_S)
        say("answered")
        return identity_pb2.VerifyApiKeyResponse(key_id=5, tenant_id=7)


async def work() -> None:
    try:
        if FAILS in sys.argv:
            raise ZeroDivisionError
        if CANCELLED in sys.argv:
            raise asyncio.CancelledError
        await asyncio.Event().wait()
    finally:
        say("cancelled")


@asynccontextmanager
async def slow(resources: Resources) -> AsyncIterator[modules.Module]:
    servicer = Slow()

    async def drain() -> None:
        say("draining")
        servicer.draining.set()

    say("starting")
    try:
        if HANGS in sys.argv:
            await asyncio.Event().wait()
        yield modules.Module("slow", servicers=[servicer], tasks={"work": work}, drain=drain)
    finally:
        say("taken down")


if __name__ == "__main__":
    sys.exit(asyncio.run(modules.run({"slow": slow}, os.environ)))
