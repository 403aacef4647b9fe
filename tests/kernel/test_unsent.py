"""A request that reached nobody is told from one that may have been carried out: the one may be made again, the other may not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import errors, rpc
from groundswell.kernel.rpc.client import Signer
from groundswell.kernel.rpc.leaving import Health
from tests.kernel.test_rpc import ALICE, KEY, Keys


class Silent(Keys):
    """A server that takes requests and answers none."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.health = Health()
        self.asked = asyncio.Event()
        self._server = grpc.aio.server()
        self._server.add_insecure_port(address)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        identity_pb2_grpc.add_ApiKeyServiceServicer_to_server(self, self._server)

    async def start(self) -> None:
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self) -> None:
        self.health.end()
        await self._server.stop(None)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: Any) -> pb.CreateApiKeyResponse:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    made = Silent(f"127.0.0.1:{ports.draw(1)[0]}")
    await made.start()
    yield made
    await made.stop()


async def create(channel: grpc.aio.Channel, timeout_s: float = 5.0) -> None:
    Signer.key = KEY
    stub = identity_pb2_grpc.ApiKeyServiceStub(channel)
    await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE, timeout_s=timeout_s)


@pytest.mark.parametrize("count", [1, 2])
async def test_where_nobody_listens_nobody_was_reached(count: int) -> None:
    async with rpc.channel(" ".join(f"127.0.0.1:{port}" for port in ports.draw(count))) as channel:
        with pytest.raises(errors.Unsent):
            await create(channel)


async def test_at_a_name_that_nobody_has_nobody_was_reached() -> None:
    async with rpc.channel("nobody.invalid:80") as channel:
        with pytest.raises(errors.Unsent):
            await create(channel)


async def test_a_server_that_says_it_leaves_is_not_reached(silent: Silent) -> None:
    async with rpc.channel(silent.address) as channel, asyncio.timeout(10):
        with pytest.raises(errors.DeadlineExceeded):
            await create(channel, 0.2)
        await silent.health.enter_graceful_shutdown()
        with pytest.raises(errors.Unsent):
            await _told(channel)


async def _told(channel: grpc.aio.Channel) -> None:
    """Asks until the channel has heard of something else than that nobody answers."""
    while True:
        with suppress(errors.DeadlineExceeded):
            await create(channel, 0.2)


async def test_a_server_that_is_gone_before_it_answers_may_have_done_what_it_was_asked(silent: Silent) -> None:
    async with rpc.channel(silent.address) as channel:
        calling = asyncio.create_task(create(channel))
        await asyncio.wait_for(silent.asked.wait(), 5)
        await silent.stop()
        with pytest.raises(errors.Error) as lost:
            await calling
        assert not isinstance(lost.value, errors.Unsent)
