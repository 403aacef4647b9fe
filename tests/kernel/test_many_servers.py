"""A name that stands for many processes, as the services of a cluster do: calls are shared out, and new processes are found."""

import asyncio
from collections.abc import Callable

import grpc

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import access, errors, rpc
from groundswell.kernel.rpc.client import Signer
from tests.kernel.names import named
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


async def test_a_process_that_comes_to_a_name_gets_its_share_and_costs_no_call() -> None:
    """Method: a name server that learns of a second address later; connections of a fifth of a second, calls without a pause or retry."""
    Signer.key = KEY
    (port,) = ports.draw(1)
    one, two, addresses = Keys(), Keys(), {"identity.test": ["127.0.0.1"]}
    async with (
        rpc.serve([one], f"127.0.0.1:{port}", KEY, access.Verifier(check), connection_s_max=0.2),
        rpc.serve([two], f"127.0.0.2:{port}", KEY, access.Verifier(check), connection_s_max=0.2),
        named(addresses) as server,
        rpc.channel(f"dns://{server}/identity.test:{port}") as channel,
    ):
        stub = identity_pb2_grpc.ApiKeyServiceStub(channel)
        while len(one.calls) < CALLS:
            await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
        assert not two.calls
        addresses["identity.test"].append("127.0.0.2")
        async with asyncio.timeout(20):
            while len(two.calls) < CALLS:
                await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)


async def test_addresses_at_which_nobody_listens_cost_no_call_and_are_used_once_somebody_does() -> None:
    """The replicas of a laptop: all addresses are known beforehand. Calls without a retry, before, while and after a second one serves."""
    Signer.key = KEY
    addresses = [f"127.0.0.1:{port}" for port in ports.draw(4)]
    one, two = Keys(), Keys()
    async with (
        rpc.serve([one], addresses[0], KEY, access.Verifier(check)),
        rpc.channel(" ".join(addresses)) as channel,
    ):
        stub = identity_pb2_grpc.ApiKeyServiceStub(channel)
        for _ in range(CALLS):
            await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
        assert len(one.calls) == CALLS
        async with rpc.serve([two], addresses[2], KEY, access.Verifier(check)), asyncio.timeout(20):
            while len(two.calls) < CALLS:
                await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
        before = len(one.calls)
        for _ in range(CALLS):
            await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
        assert len(one.calls) == before + CALLS


async def lost_while_servers_leave(channel: grpc.aio.Channel, address: str, enough: Callable[[int, int], bool]) -> int:
    """Calls without a retry, while a second server comes and leaves again and again, until that is `enough`; those that failed."""
    stub, leaving, lost = identity_pb2_grpc.ApiKeyServiceStub(channel), asyncio.Event(), 0

    async def ask_on() -> None:
        nonlocal lost
        while not leaving.is_set():
            try:
                await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), ALICE)
            except errors.Error:
                lost += 1

    callers, times = [asyncio.create_task(ask_on()) for _ in range(8)], 0
    async with asyncio.timeout(120):
        while not enough(times, lost):
            two = Keys()
            async with rpc.serve([two], address, KEY, access.Verifier(check)):
                while len(two.calls) < CALLS:
                    await asyncio.sleep(0.01)
            times += 1
    leaving.set()
    await asyncio.gather(*callers)
    return lost


async def test_a_server_that_leaves_costs_no_call_because_its_callers_hear_of_it_first() -> None:
    """The control: callers that do not watch the health of servers lose calls, for gRPC cancels what arrives while a server stops."""
    Signer.key = KEY
    first, second = (f"127.0.0.1:{port}" for port in ports.draw(2))
    round_robin = [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')]
    async with (
        rpc.serve([Keys()], first, KEY, access.Verifier(check)),
        rpc.channel(f"{first} {second}") as channel,
        grpc.aio.insecure_channel(f"ipv4:{first},{second}", options=round_robin) as control,
    ):
        assert await lost_while_servers_leave(channel, second, lambda times, _: times == 20) == 0
        assert await lost_while_servers_leave(control, second, lambda _, lost: lost > 0) > 0
