"""How an event gets to the page and into answers: at once, by itself.

How fast that is under load is measured, not tested: by the demo and the benchmark `frames` (docs/systems/analytics.md).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from groundswell.analytics.module.collector import analytics
from groundswell.analytics.module.live import live
from groundswell.analytics.module.writer import writer
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import analytics_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import errors, rpc
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources
from tests.analytics.conftest import Server
from tests.analytics.test_late_engines import running

CALLER = Context(7, "apiKeys/1", frozenset({"*"}))
EVENTS = 5
LONG_S = 60.0


@pytest.fixture
async def stub(
    kafka_address: str, postgres_dsn: str, frames_topic: str, clickhouse_server: Server, tmp_path: Path
) -> AsyncIterator[analytics_pb2_grpc.AnalyticsServiceStub]:
    """The three modules of analytics, all at work."""
    address = f"127.0.0.1:{ports.draw(1)[0]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "CLICKHOUSE_DSN": clickhouse_server.dsn,
        "FRAMES_TOPIC": frames_topic,
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "GROUNDSWELL_INSTANCE": frames_topic,
        "GROUNDSWELL_ENDPOINTS": ",".join(f"{module}={address}" for module in ("writer", "live", "identity")),
    }
    async with Resources.open(environment) as resources, AsyncExitStack() as opened:
        modules = [await opened.enter_async_context(module(resources)) for module in (analytics, live, writer)]
        servicers = [each for module in modules for each in module.servicers]
        await opened.enter_async_context(rpc.serve(servicers, address, resources.internal_key, resources.verifier()))
        for module in modules:
            await opened.enter_async_context(running(module))
        yield analytics_pb2_grpc.AnalyticsServiceStub(await opened.enter_async_context(rpc.channel(address)))


@pytest.mark.promise("ANALYTICS-3")
async def test_each_event_reaches_the_live_counters_and_the_answers_with_none_behind_it(
    stub: analytics_pb2_grpc.AnalyticsServiceStub,
) -> None:
    """Goal: nothing on either way waits for more to come. Method: a trickle in which the next event is sent once the last was seen."""
    for number in range(1, EVENTS + 1):
        event = pb.Event(kind="view", item="1", user_id=f"u{number}")
        await rpc.call(stub.CollectEvents, pb.CollectEventsRequest(events=[event]), CALLER, timeout_s=LONG_S)
        async with asyncio.timeout(LONG_S):
            assert await _live(stub, number) == number
        async with asyncio.timeout(LONG_S):
            assert await _answered(stub, number) == number


async def _live(stub: analytics_pb2_grpc.AnalyticsServiceStub, at_least: int) -> int:
    """What the live window holds once it holds so many."""
    async for look in stub.WatchMetrics(pb.WatchMetricsRequest(kind="view"), metadata=rpc.outgoing(CALLER)):
        if look.window_events >= at_least:
            return look.window_events
    raise AssertionError("the stream has ended")


async def _answered(stub: analytics_pb2_grpc.AnalyticsServiceStub, at_least: int) -> int:
    """What the store answers once it has so many."""
    now_s = int(time.time())
    request = pb.RunQueryRequest(measures=["events"])
    request.range.start.seconds, request.range.end.seconds = now_s - 3_600, now_s + 3_600
    while True:
        with suppress(errors.Unavailable, errors.Exhausted):  # the store is still starting, or the machine is busy
            found = await rpc.call(stub.RunQuery, request, CALLER, timeout_s=LONG_S)
            if (events := sum(int(row.measures["events"]) for row in found.rows)) >= at_least:
                return events
        await asyncio.sleep(0.05)
