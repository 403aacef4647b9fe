"""The books compare every rollup, and cost no more than they must.

Method: rows and their rollups on the real engine, then a row too many in each rollup in turn, as a statement that came twice in one
table would leave it.
"""

import pytest

from groundswell.analytics.model.questions import HOUR_MS
from groundswell.analytics.rpc.store import StoreRpc
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import BookStore
from groundswell.analytics.store.queries import QueryStore
from groundswell.analytics.store.ranges import RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2
from groundswell.kernel import clickhouse, rpc
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from loadtests.oracles.books import ROLLUPS
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import draw, whole

ROWS = 2_000


def told(balance: pb.Balance) -> list[int]:
    return [getattr(balance, name) for name in ROLLUPS]


@pytest.mark.promise("ANALYTICS-2")
async def test_a_row_too_many_shows_in_the_books_whichever_rollup_has_it(clickhouse_server: Server) -> None:
    """Goal: as many figures as there are rollups, in the public answer too, and each tells of its own table alone."""
    start_ms = SystemClock().now_ms() - HOUR_MS
    drawn = draw(ROWS, seed=1, tenant=TENANT, start_ms=start_ms, span_ms=60_000, items=5, users=50)
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        rollups = RollupStore(store, "t")
        await RangeStore(store, "t").write(whole(0), drawn.content())
        await rollups.write([whole(0)])

        async def balance(*, without_rollups: bool = False) -> pb.Balance:
            """Read anew: whoever answers keeps books for a while."""
            answering = Answering(QueryStore(store, 1, rollups.adding), BookStore(store), SystemClock(), 8, 4)
            request = live_pb2.ReadBalanceRequest(without_rollups=without_rollups)
            return (await StoreRpc(answering).ReadBalance(request, rpc.Call(Context(TENANT), RequestKey()))).balance

        assert len(ROLLUPS) == len(schema.ROLLUPS)
        assert told(await balance()) == [ROWS] * len(ROLLUPS)
        for number, table in enumerate(schema.ROLLUPS, start=1):
            await store.execute(f"INSERT INTO {table} SELECT * FROM {table} WHERE tenant = {TENANT} LIMIT 1")
            assert sum(figure > ROWS for figure in told(await balance())) == number, table
        without = await balance(without_rollups=True)
        assert (without.stored, told(without)) == (ROWS, [0] * len(ROLLUPS))
