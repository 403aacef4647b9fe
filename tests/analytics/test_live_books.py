"""The books beside the live numbers, on a stream that outlives every deadline."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.model.window import WINDOW_S
from groundswell.analytics.rpc.closed import ClosedAnswers
from groundswell.analytics.rpc.collector import AnalyticsRpc
from groundswell.analytics.rpc.live import LiveRpc
from groundswell.analytics.service.collecting import Collector
from groundswell.analytics.service.live import LiveCounters
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2, live_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import access, errors, postgres, rpc
from groundswell.kernel.bus import frames, positions
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.rpc.client import Signer
from tests.analytics.conftest import PARTITIONS, TENANT

KEY = b"k" * 32
WAIT_S = 30.0


class StoreBehind(live_pb2_grpc.StoreServiceServicer):
    """Tells books in which one more is stored at each reading."""

    stored = 0

    async def QueryStore(  # type: ignore[override]  # the kernel hands servicers its own `Call`
        self, request: live_pb2.QueryStoreRequest, call: rpc.Call
    ) -> live_pb2.QueryStoreResponse:
        raise errors.Unavailable("There are only books here.")

    async def ReadBalance(  # type: ignore[override]  # the kernel hands servicers its own `Call`
        self, request: live_pb2.ReadBalanceRequest, call: rpc.Call
    ) -> live_pb2.ReadBalanceResponse:
        self.stored += 1
        return live_pb2.ReadBalanceResponse(balance=pb.Balance(stored=self.stored))


async def nobody(secret: str) -> access.Credential:
    raise access.InvalidCredential


@pytest.fixture
async def asked(
    kafka_address: str, frames_topic: str, database: postgres.Database, frame_producer: frames.FrameProducer
) -> AsyncIterator[AnalyticsRpc]:
    Signer.key = KEY
    clock, address = SystemClock(), f"127.0.0.1:{ports.draw(1)[0]}"
    behind = [StoreBehind(), LiveRpc(LiveCounters(clock), WINDOW_S)]
    async with (
        rpc.serve(behind, address, KEY, access.Verifier(nobody)),
        rpc.channel(address) as channel,
        positions.opened(kafka_address, frames_topic, PARTITIONS, WAIT_S) as log,
    ):
        collector = Collector(frame_producer, database, clock, KEY, WAIT_S)
        yield AnalyticsRpc(collector, Store(channel), Live(channel), clock, ClosedAnswers(log, clock, 1))


async def test_a_stream_that_is_older_than_the_deadline_of_a_call_still_tells_new_books(asked: AnalyticsRpc) -> None:
    """Goal: whoever opens a stream without a deadline gets that of a call, after which the page went on without its books for ever."""
    over = Context(TENANT, deadline_s=time.monotonic() - 1.0)
    watching = asked.WatchMetrics(pb.WatchMetricsRequest(), rpc.Call(over, RequestKey()))
    told: set[int] = set()
    assert isinstance(watching, AsyncGenerator)
    async with asyncio.timeout(WAIT_S), aclosing(watching) as looks:
        while len(told) < 2:
            look = await anext(looks)
            if look.HasField("balance_time"):
                told.add(look.stored)
    assert told == {1, 2}
