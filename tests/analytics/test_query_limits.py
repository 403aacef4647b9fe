"""What one question, and one tenant, may take of the store; and what a caller hears who wants more.

Goal: eight questions at once a tenant, a time and a memory for each, always answered by 429 and never by a wait that ends first. Method:
the public door, the collector's module and the store's service over a real engine in another process, where statements can be held.
Clocks that are ahead stand for time that has passed, so nothing here depends on how busy the machine is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from groundswell.analytics import errors
from groundswell.analytics.model.questions import HOUR_MS, Filter, Question
from groundswell.analytics.module.collector import analytics
from groundswell.analytics.rpc.store import StoreRpc
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.settings import AnalyticsSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import BookStore
from groundswell.analytics.store.queries import QueryStore
from groundswell.api.analytics.v1 import analytics_pb2
from groundswell.engines import ports
from groundswell.kernel import access, clickhouse, rpc
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources
from tests.analytics.conftest import PARTITIONS, Server
from tests.gateway import door
from tests.gateway.wire import Wire

ALICE, BOB = (Context(tenant, f"apiKeys/{tenant}", frozenset({"*"})) for tenant in (7, 8))
KEYS = {"gsk_7_alice": ALICE, "gsk_8_bob": BOB}
AT_ONCE, AT_WORK = AnalyticsSettings().queries_per_tenant, 2
LONG_S = 60.0
SERVED = {"analytics": [analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]]}
ROWS = f"""INSERT INTO {schema.EV} (ts, _t, kind, tenant, item, user, _o)
    SELECT now64(3) - 60, now(), 'view', 7, number % 5, cityHash64(number), number FROM numbers({{rows:UInt32}})"""
SLOW = "ADD COLUMN name String ALIAS if(sleepEachRow(0.01) = 0, '', 'never')"


@dataclass
class Ahead(SystemClock):
    """A clock by which so much more time has passed."""

    by_s: float = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.by_s


class Way(Wire):
    """Leads the door to this address instead of its own service."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    async def open(self, to: str) -> str:
        return await super().open(self._address)


@dataclass
class Asked:
    """The store's answers, and the door in front of them."""

    answering: Answering
    client: httpx.AsyncClient

    async def over_http(self, who: Context, kind: str = "view", **more: Any) -> httpx.Response:
        key = next(key for key, holder in KEYS.items() if holder is who)
        now_s = int(time.time())
        times = {name: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for name, at in
                 (("start", now_s - 1_800), ("end", now_s + 1_800))}  # fmt: skip
        asked = {"measures": ["users"], "filters": [{"dimension": "kind", "values": [kind]}], "range": times} | more
        return await self.client.post("/v1/analytics:query", json=asked, headers={"authorization": f"Bearer {key}"})


Opened = Callable[..., AbstractAsyncContextManager[Asked]]


@pytest.fixture
def opened(
    kafka_address: str, postgres_dsn: str, frames_topic: str, clickhouse_server: Server, tmp_path: Path
) -> Opened:
    """Opens all of it, under other limits than those of a start where they are named."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "FRAMES_TOPIC": frames_topic,
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": door.KEY.hex(),
    }

    @asynccontextmanager
    async def open_(ahead_s: float = 0.0, **limits: Any) -> AsyncIterator[Asked]:
        stores, own = (f"127.0.0.1:{port}" for port in ports.draw(2))
        endpoints = {"GROUNDSWELL_ENDPOINTS": f"writer={stores},live={stores},identity={stores}"}
        config, way = clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn, **limits), Way(own)
        verifier = access.Verifier(holder)
        async with Resources.open(environment | endpoints) as resources, clickhouse.opened(config) as store:
            await schema.create(store, 1_000)
            queries = QueryStore(store, PARTITIONS, asyncio.Lock())
            answering = Answering(queries, BookStore(store), Ahead(ahead_s), AT_ONCE, store.callers)
            async with (
                rpc.serve([StoreRpc(answering)], stores, door.KEY, verifier),
                analytics(resources) as module,
                rpc.serve(module.servicers, own, door.KEY, verifier),
                door.opened(tmp_path / "door", services=SERVED, wire=way, check=holder) as public,
                httpx.AsyncClient(base_url=public.url, timeout=LONG_S) as client,
            ):
                yield Asked(answering, client)
            way.close()

    return open_


async def holder(secret: str) -> access.Credential:
    if secret not in KEYS:
        raise access.InvalidCredential
    return access.Credential(KEYS[secret].tenant, KEYS[secret], None)


def refusal(answer: httpx.Response) -> tuple[int, str, bool]:
    """Its status, its code, and whether it says when to come again."""
    return answer.status_code, answer.json().get("code", ""), int(answer.headers.get("retry-after", 0)) >= 1


TOO_MANY, TOO_EXPENSIVE = (429, "TOO_MANY_QUERIES", True), (429, "QUERY_TOO_EXPENSIVE", True)


def question(kind: str) -> Question:
    now_ms = SystemClock().now_ms()
    return Question(("events",), (), (Filter("kind", (kind,)),), "", now_ms - HOUR_MS, now_ms)


async def until(condition: Callable[[], bool]) -> None:
    """Whatever was begun before has begun when this returns."""
    async with asyncio.timeout(LONG_S):
        await asyncio.sleep(0.02)
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.promise("ANALYTICS-13")
async def test_the_ninth_question_of_a_tenant_is_refused_while_another_tenants_is_answered(
    opened: Opened, clickhouse_server: Server
) -> None:
    async with opened() as asked:
        with clickhouse_server.holding():
            nine = [asyncio.create_task(asked.over_http(ALICE, "held")) for _ in range(AT_ONCE + 1)]
            done, _ = await asyncio.wait(nine, return_when=asyncio.FIRST_COMPLETED)
            assert [refusal(each.result()) for each in done] == [TOO_MANY]
            await until(lambda: clickhouse_server.held == AT_WORK)
            other = await asked.over_http(BOB)
            assert (other.status_code, clickhouse_server.held) == (200, AT_WORK), other.text
        answers = [await each for each in nine]
        assert sum(refusal(each) == TOO_MANY for each in answers) == 1
        assert (await asked.over_http(ALICE, "held")).status_code == 200


@pytest.mark.promise("ANALYTICS-13")
async def test_a_question_that_was_given_up_keeps_its_place_until_the_store_is_done_with_it(
    opened: Opened, clickhouse_server: Server
) -> None:
    """Goal: who asks and hangs up again and again has no more questions running than may be. Those whose turn never came are gone."""
    async with opened(query_s_max=LONG_S) as asked:
        with clickhouse_server.holding():
            for again in range(3):
                places = AT_ONCE - (AT_WORK if again else 0)
                given_up = [asyncio.create_task(asked.answering.ask(ALICE, question("held"))) for _ in range(places)]
                await until(lambda: clickhouse_server.held == AT_WORK)
                with pytest.raises(errors.TooManyQueries):
                    await asyncio.wait_for(asked.answering.ask(ALICE, question("held")), LONG_S / 4)
                for each in given_up:
                    each.cancel()
                ended = await asyncio.gather(*given_up, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            assert clickhouse_server.held == AT_WORK
        refused: list[object] = [None]
        async with asyncio.timeout(LONG_S):
            while refused:
                asks = (asked.answering.ask(ALICE, question("view")) for _ in range(AT_ONCE))
                refused = [
                    each
                    for each in await asyncio.gather(*asks, return_exceptions=True)
                    if isinstance(each, errors.TooManyQueries)
                ]


@pytest.mark.promise("ANALYTICS-13")
async def test_a_caller_hears_that_a_question_takes_too_long_before_the_own_time_is_over(
    opened: Opened, clickhouse_server: Server
) -> None:
    """Goal: 429, which says what to change, and not the 504 of a door that stopped waiting. Of its ten seconds nine have passed."""
    async with opened(ahead_s=9.0) as asked:
        with clickhouse_server.holding():
            assert refusal(await asked.over_http(ALICE, "held")) == TOO_EXPENSIVE


@pytest.mark.promise("ANALYTICS-13")
async def test_a_question_that_waited_for_its_turn_until_its_time_was_over_never_runs(
    opened: Opened, clickhouse_server: Server
) -> None:
    async with opened(ahead_s=LONG_S, query_s_max=LONG_S) as asked:
        over = Context(ALICE.tenant, deadline_s=time.monotonic() + 1.0)
        with clickhouse_server.holding(), pytest.raises(errors.QueryTooExpensive):
            await asked.answering.ask(over, question("held"))
        assert clickhouse_server.held == 0


@pytest.mark.promise("ANALYTICS-13")
@pytest.mark.parametrize(
    ("limit", "parts", "rows", "slow"),
    [({"query_s_max": 0.2}, 10, 25, True), ({"query_bytes_max": 1_000_000}, 1, 300_000, False)],
)
async def test_a_question_over_its_time_or_its_memory_is_refused_and_under_it_answered(
    opened: Opened, clickhouse_server: Server, limit: dict[str, Any], parts: int, rows: int, slow: bool
) -> None:
    """Method: rows that take the engine ten milliseconds each to read; so many distinct users that their set alone is too big."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        for _ in range(parts):  # between which the engine looks at the time
            await store.execute(ROWS, {"rows": rows})
        if slow:
            await store.execute(f"ALTER TABLE {schema.EV} DROP COLUMN name, {SLOW}")
    costly: dict[str, Any] = {"dimensions": ["item"], "interval": "second"}
    for limits, wanted in ((limit, TOO_EXPENSIVE), ({}, (200, "", False))):
        async with opened(**limits) as asked:
            assert refusal(await asked.over_http(ALICE, **costly)) == wanted
