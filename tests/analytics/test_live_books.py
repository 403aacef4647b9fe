"""What a page hears beside the plain live numbers: the books, on a stream that outlives every deadline, and users if it asks for them."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.model.window import SETTLED_S, WINDOW_S
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
from tests.analytics.test_live_window import NOW_MS, record_of
from tests.clocks import HeldClock

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
def counters() -> LiveCounters:
    return LiveCounters(HeldClock(NOW_MS))


@pytest.fixture
async def asked(
    kafka_address: str,
    frames_topic: str,
    database: postgres.Database,
    frame_producer: frames.FrameProducer,
    counters: LiveCounters,
) -> AsyncIterator[AnalyticsRpc]:
    Signer.key = KEY
    clock, address = SystemClock(), f"127.0.0.1:{ports.draw(1)[0]}"
    behind = [StoreBehind(), LiveRpc(counters, WINDOW_S)]
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


async def test_users_by_country_device_and_item_are_told_to_who_asks_for_them(
    asked: AnalyticsRpc, counters: LiveCounters
) -> None:
    at_ms = NOW_MS - SETTLED_S * 1000
    item, name = frames.item_id("pages/pricing")
    rows = [
        frames.Row(at_ms, "view", TENANT, item, user, country=country, device=2, name=name)
        for user, country in ((1, 0x4445), (1, 0x4445), (2, 0x4445), (2, 0))
    ]
    counters.take([record_of(frames.record_batch(rows), 1, frames.Header(99, 1, len(rows), at_ms, at_ms))])
    plain, told = [
        await first_look(asked, pb.WatchMetricsRequest(with_users=with_users)) for with_users in (False, True)
    ]
    assert not plain.HasField("settled")
    all_of_them = pb.SecondCount(events=4, users=2)
    wanted = pb.SettledSecond(
        total=all_of_them,
        kinds={"view": all_of_them},
        countries={"DE": pb.SecondCount(events=3, users=2), "unknown": pb.SecondCount(events=1, users=1)},
        devices={"mobile": all_of_them},
        items=[pb.TopItem(item="pages/pricing", kind="view", events=4, users=2)],
    )
    wanted.time.FromSeconds(at_ms // 1000)
    assert told.settled == wanted


async def first_look(asked: AnalyticsRpc, request: pb.WatchMetricsRequest) -> pb.LiveMetrics:
    watching = asked.WatchMetrics(request, rpc.Call(Context(TENANT), RequestKey()))
    assert isinstance(watching, AsyncGenerator)
    async with asyncio.timeout(WAIT_S), aclosing(watching) as looks:
        return await anext(looks)
