"""Top items: the order, who sees what, and which answers are kept.

Goal: ANALYTICS-9's one call. Method: real batches through the log into a real store in another process, which may be held back; the
clock of the asked is a test's, so that ranges close and answers age when the test says so.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.rpc.closed import ClosedAnswers
from groundswell.analytics.rpc.collector import AnalyticsRpc
from groundswell.analytics.service.collecting import Collector
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import analytics_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import access, errors, postgres, rpc
from groundswell.kernel.bus import frames, positions
from groundswell.kernel.context import Context
from groundswell.kernel.rpc.client import Signer
from tests.analytics.conftest import PARTITIONS
from tests.clocks import HeldClock

KEY = b"k" * 32
ALICE, BOB = (Context(tenant, f"apiKeys/{tenant}", frozenset({"*"})) for tenant in (7, 8))
MINUTE_MS = 60_000
LONG_S = 60.0

Top = list[tuple[str, int, int]]
"""(item, events, users), in the order of the answer."""


@dataclass
class Analytics:
    """What a test asks, and what it moves."""

    stub: analytics_pb2_grpc.AnalyticsServiceStub
    clock: HeldClock
    go: Path
    began_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.began_ms = self.clock.at_ms

    async def collect(self, who: Context, *events: tuple[str, str], at_ms: int | None = None) -> None:
        """Sends views by (item, user) as one batch."""
        request = pb.CollectEventsRequest()
        for item, user in events:
            event = request.events.add(kind="view", item=item, user_id=user)
            event.time.FromMilliseconds(self.began_ms if at_ms is None else at_ms)
        assert (await rpc.call(self.stub.CollectEvents, request, who)).accepted == len(events)

    async def top(self, who: Context, end_ms: int | None = None, order_by: str = "") -> Top:
        """Of the hour before `end_ms`; of the time up to now unless it is given."""
        request = pb.ListTopItemsRequest(kind="view", order_by=order_by)
        if end_ms is not None:
            request.start_time.FromMilliseconds(end_ms - 60 * MINUTE_MS)
            request.end_time.FromMilliseconds(end_ms)
        found = await rpc.call(self.stub.ListTopItems, request, who, timeout_s=LONG_S)
        return [(each.item, each.events, each.users) for each in found.items]

    async def shows(self, wanted: Top, who: Context = ALICE, end_ms: int | None = None) -> None:
        """Waits until the answer is this one."""
        found: Top | None = None
        async with asyncio.timeout(LONG_S):
            while found != wanted:
                try:
                    found = await self.top(who, end_ms)
                except errors.Unavailable:  # the store is still starting
                    await asyncio.sleep(0.05)


@pytest.fixture
async def analytics(
    kafka_address: str,
    postgres_dsn: str,
    frames_topic: str,
    clickhouse_dsn: str,
    database: postgres.Database,
    frame_producer: frames.FrameProducer,
    tmp_path: Path,
) -> AsyncIterator[Analytics]:
    Signer.key = KEY
    own, stores = (f"127.0.0.1:{port}" for port in ports.draw(2))
    clock, go = HeldClock(time.time_ns() // 1_000_000), tmp_path / "go"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "CLICKHOUSE_DSN": clickhouse_dsn,
        "CLICKHOUSE_NICENESS": "0",
        "FRAMES_TOPIC": frames_topic,
        "GROUNDSWELL_DATA": str(tmp_path / "store"),
        "GROUNDSWELL_INSTANCE": secrets.token_hex(4),
        "GROUNDSWELL_INTERNAL_KEY": KEY.hex(),
        "GROUNDSWELL_ENDPOINTS": "identity=127.0.0.1:1",
        "PYTHONPATH": "services",
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.analytics.store_process", stores, str(go), env=os.environ | environment
    )
    collector = Collector(frame_producer, database, clock, KEY, LONG_S)
    try:
        async with (
            rpc.channel(stores) as store,
            positions.opened(kafka_address, frames_topic, PARTITIONS, LONG_S) as log,
        ):
            tops: ClosedAnswers[pb.ListTopItemsResponse] = ClosedAnswers(log, clock, 10)
            asked = AnalyticsRpc(collector, Store(store), Live(store), clock, tops)
            async with rpc.serve([asked], own, KEY, access.Verifier(nobody)), rpc.channel(own) as channel:
                yield Analytics(analytics_pb2_grpc.AnalyticsServiceStub(channel), clock, go)
    finally:
        child.kill()
        await child.wait()


async def nobody(secret: str) -> access.Credential:
    raise access.InvalidCredential


@pytest.mark.promise("ANALYTICS-9")
async def test_items_are_listed_by_events_or_by_users_and_each_tenant_sees_its_own(analytics: Analytics) -> None:
    analytics.go.touch()
    await analytics.collect(ALICE, ("often", "a"), ("often", "a"), ("often", "a"), ("widely", "a"), ("widely", "b"))
    await analytics.collect(BOB, ("often", "a"), ("hers", "a"), ("hers", "a"))
    await analytics.shows([("often", 3, 1), ("widely", 2, 2)])
    await analytics.shows([("hers", 2, 1), ("often", 1, 1)], BOB)
    assert await analytics.top(ALICE, order_by="users") == [("widely", 2, 2), ("often", 3, 1)]
    for who, items in ((ALICE, ["often", "widely"]), (BOB, ["hers", "often"])):
        end_ms = analytics.began_ms + MINUTE_MS
        analytics.clock.at_ms = end_ms + 2 * MINUTE_MS
        both = [await analytics.top(who, end_ms) for _ in range(2)]
        assert [[item for item, *_ in top] for top in both] == [items] * 2, "kept answers are apart too"
    with pytest.raises(errors.Invalid):
        await analytics.top(ALICE, order_by="value")


@pytest.mark.promise("ANALYTICS-9")
async def test_the_open_minute_is_fresh_at_every_look(analytics: Analytics) -> None:
    """The clock stands, so an answer that was kept would stay for ever."""
    analytics.go.touch()
    for count in range(1, 4):
        await analytics.collect(ALICE, ("page", "a"))
        await analytics.shows([("page", count, 1)])
        await analytics.shows([("page", count, 1)], end_ms=analytics.began_ms + 1)


@pytest.mark.promise("ANALYTICS-9")
async def test_a_closed_range_is_answered_from_memory_for_a_minute_and_anew_after_it(analytics: Analytics) -> None:
    analytics.go.touch()
    end_ms = analytics.began_ms + 1
    await analytics.collect(ALICE, ("page", "a"))
    await analytics.shows([("page", 1, 1)])
    analytics.clock.at_ms = end_ms + MINUTE_MS
    assert await analytics.top(ALICE, end_ms) == [("page", 1, 1)]
    await analytics.collect(ALICE, ("page", "a"))
    await analytics.shows([("page", 2, 1)])
    analytics.clock.at_ms += MINUTE_MS - 1
    assert await analytics.top(ALICE, end_ms) == [("page", 1, 1)]
    analytics.clock.at_ms += 1
    assert await analytics.top(ALICE, end_ms) == [("page", 2, 1)]


@pytest.mark.promise("ANALYTICS-9")
async def test_an_answer_over_a_closed_range_is_not_kept_before_the_store_holds_it(analytics: Analytics) -> None:
    """Goal: a writer that was away costs nobody a minute of wrong numbers. The clock stands: what is kept once would stay for ever."""
    end_ms = analytics.began_ms + 1
    await analytics.collect(ALICE, ("page", "a"), ("page", "b"))
    analytics.clock.at_ms = end_ms + 2 * MINUTE_MS
    await analytics.shows([], end_ms=end_ms)  # the rows are in the log only
    analytics.go.touch()
    await analytics.shows([("page", 2, 2)], end_ms=end_ms)


async def test_while_the_log_does_not_answer_nothing_is_kept() -> None:
    clock, key = HeldClock(10 * MINUTE_MS), (7, b"question")
    async with positions.opened("127.0.0.1:1", "nowhere", 1, LONG_S) as away:
        tops: ClosedAnswers[str] = ClosedAnswers(away, clock, 10)
        await tops.offer(*key, "answer", 0, [1])
        assert tops.get(*key) is None
        with pytest.raises(positions.LogAway):
            await away.offsets_at(0)


async def test_only_the_newest_answers_are_kept() -> None:
    clock = HeldClock(10 * MINUTE_MS)

    class Log:
        async def offsets_at(self, moment_ms: int) -> list[int]:
            return [3, 0]

    tops: ClosedAnswers[int] = ClosedAnswers(Log(), clock, 2)
    for number, as_of in enumerate([[3, 0], [3, 5], [2, 5], [3], [4, 0]]):
        await tops.offer(7, bytes([number]), number, 0, as_of)
    assert [tops.get(7, bytes([number])) for number in range(5)] == [None, 1, None, None, 4]
