"""A name that stands for many processes, as the services of a cluster do: calls are shared out, and new processes are found."""

import asyncio

import grpc
import psutil

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import access, rpc
from groundswell.kernel.rpc.client import Signer
from tests.kernel.test_rpc import ALICE, KEY, Keys, check

CALLS = 40


async def ask(channel: grpc.aio.Channel) -> None:
    stub = identity_pb2_grpc.ApiKeyServiceStub(channel)
    await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE, idempotent=True)


async def test_the_processes_behind_one_name_share_its_calls() -> None:
    """Method: two servers behind one target, as a headless service's name is answered with two addresses."""
    Signer.key = KEY
    addresses = [f"127.0.0.1:{port}" for port in ports.draw(2)]
    one, two = Keys(), Keys()
    async with (
        rpc.serve([one], addresses[0], KEY, access.Verifier(check)),
        rpc.serve([two], addresses[1], KEY, access.Verifier(check)),
        rpc.channel(f"ipv4:{','.join(addresses)}") as channel,
    ):
        async with asyncio.timeout(10):
            while not (one.calls and two.calls):  # the second connection may come a moment after the first
                await ask(channel)
        before = len(one.calls), len(two.calls)
        for _ in range(CALLS):
            await ask(channel)
        assert (len(one.calls) - before[0], len(two.calls) - before[1]) == (CALLS // 2, CALLS // 2)


async def test_calls_go_on_while_a_server_ends_its_old_connections() -> None:
    """Goal: looking for new processes costs no call. Method: connections of a fifth of a second, calls without a pause, no retry."""
    Signer.key = KEY
    (port,) = ports.draw(1)
    async with (
        rpc.serve([Keys()], f"127.0.0.1:{port}", KEY, access.Verifier(check), connection_s_max=0.2),
        rpc.channel(f"localhost:{port}") as channel,
    ):
        stub, connections = identity_pb2_grpc.ApiKeyServiceStub(channel), set[int]()
        async with asyncio.timeout(20):
            while len(connections) < 3:
                await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
                connections |= ports_to(port)


def ports_to(port: int) -> set[int]:
    """The ports of this process's connections to `port`."""
    sockets = psutil.Process().net_connections("tcp")
    return {each.laddr.port for each in sockets if each.raddr and each.raddr.port == port}
