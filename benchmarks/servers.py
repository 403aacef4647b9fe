"""The references: the gateway's own HTTP server with nothing behind it, and with one call by hand.

`python -m benchmarks.servers constant PORT`; `python -m benchmarks.servers by-hand PORT LINKS_ADDRESS LINK TENANT` with the platform's key
in the environment.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.api.links.v1 import links_pb2_grpc
from groundswell.kernel import rpc
from groundswell.kernel.context import Context
from groundswell.kernel.rpc.client import Signer

Send = Callable[[dict[str, Any]], Awaitable[None]]
LOCATION = b"https://shop.example/an/article"


async def constant(scope: Any, receive: Any, send: Send) -> None:
    """A redirect that is always the same."""
    headers = [(b"location", LOCATION), (b"cache-control", b"private, no-store")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def by_hand(address: str, link: str, tenant: int) -> Callable[[Any, Any, Send], Awaitable[None]]:
    """What one would write for GET /v1/links/{link} without a gateway."""
    stub = links_pb2_grpc.LinkServiceStub(rpc.channel(address))
    caller = Context(tenant, "apiKeys/1", frozenset({"*"}))

    async def answer(scope: Any, receive: Any, send: Send) -> None:
        found = await rpc.call(stub.GetLink, pb.GetLinkRequest(name=f"links/{link}"), caller)
        body = json_format.MessageToJson(found, indent=None).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def main(kind: str, port: str, *rest: str) -> None:
    if kind == "by-hand":
        Signer.key = bytes.fromhex(os.environ["GROUNDSWELL_INTERNAL_KEY"])
        address, link, tenant = rest
        application = by_hand(address, link, int(tenant))
    else:
        application = constant
    server: Any = Server(  # typed Any: granian's embedded server is not annotated
        application,
        address="127.0.0.1",
        port=int(port),
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        websockets=False,
        log_enabled=False,
    )
    await server.serve()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
