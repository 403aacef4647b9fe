"""Raw rows that somebody left whose mark is forgotten are in every rollup, however often writers take over before they come to them.

Goal: others' rows among a range's own are found, whatever hour they are of. Method: a row of another hour, as
a writer leaves it that dies between a range's rows and its own row of `frames`, and real writers one after the other in front of it.
"""

import asyncio

import numpy as np
import pytest

from groundswell.analytics.model.questions import HOUR_MS
from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics.conftest import TENANT, Server, WriterProcess
from tests.analytics.raw_rows import draw
from tests.analytics.test_dead_letters import ROWS
from tests.analytics.test_log_loss import Log, ended, log
from tests.analytics.test_log_retention import LONG_S, said

__all__ = ["log"]
OFFSET = 4


async def left_behind(server: Server) -> None:
    """A raw row of five hours ago at `OFFSET`, of which nothing else tells."""
    drawn = draw(
        1,
        seed=1,
        tenant=TENANT,
        start_ms=SystemClock().now_ms() - 5 * HOUR_MS,
        span_ms=1,
        items=1,
        users=1,
    )
    drawn.columns["_o"] = np.array([OFFSET], np.uint64)
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=server.dsn)) as store:
        await schema.create(store, 1_000)
        await RangeStore(store, "before").write(Range(0, OFFSET, OFFSET), drawn.content())


@pytest.mark.promise("ANALYTICS-2")
async def test_rows_whose_mark_is_forgotten_are_in_every_rollup_whoever_comes_to_them(
    log: Log, clickhouse_server: Server, writer_process: WriterProcess
) -> None:
    """Method: the first writer, without a mark, stores the two frames in front of the row, and the second, with one, those around it."""
    writer_process.dsn = clickhouse_server.dsn
    await left_behind(clickhouse_server)
    await log.give(range(1, 3))
    await writer_process.start()
    async with asyncio.timeout(LONG_S):
        while said(writer_process)["ev"] != 2 * ROWS + 1:
            await asyncio.sleep(0.05)
    await ended(writer_process)
    await log.give(range(3, 7))
    await writer_process.start()
    await writer_process.done(6 * ROWS + 1)
    await ended(writer_process)
    counts = await writer_process.counts()
    assert counts["accepted"] == 6 * ROWS
    assert {table: counts[table] for table in schema.ROLLUPS} == dict.fromkeys(schema.ROLLUPS, 6 * ROWS + 1)
