"""The store as a server: `kernel.clickhouse` over HTTP, and the writer while the server is killed and started again.

The server is the engine behind requests that we read (see `clickhouse_server`): what is proven is what we send and what the engine makes
of it.
"""

import time
from pathlib import Path

import pytest

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse, errors
from groundswell.kernel.bus import frames
from tests.analytics.conftest import Server, WriterProcess, acknowledged
from tests.analytics.raw_rows import draw, whole
from tests.analytics.test_writer_crash import rows, unequal

ROWS = 3_000


def settings(server: Server, **more: float) -> clickhouse.ClickHouseSettings:
    return clickhouse.ClickHouseSettings(dsn=server.dsn, **more)  # type: ignore[arg-type]  # each test names them rightly


async def test_values_are_bound_and_what_the_server_refuses_is_told_apart(clickhouse_server: Server) -> None:
    async with clickhouse.opened(settings(clickhouse_server, query_s_max=0.5)) as store:
        bound = {"n": 5, "texts": ["it's", "b"]}
        assert (await store.query("SELECT {n:UInt64} + 1, {texts:Array(String)}", bound)).rows == [(6, ["it's", "b"])]
        with pytest.raises(clickhouse.QueryFailed):
            await store.query("SELECT nonsense")
        with pytest.raises(errors.DeadlineExceeded):
            await store.query("SELECT sleep(1) FROM numbers(10) SETTINGS max_block_size = 1")
        clickhouse_server.stop()
        with pytest.raises(clickhouse.StoreUnavailable):
            await store.query("SELECT 1")


@pytest.mark.promise("ANALYTICS-2")
async def test_an_insert_over_http_and_its_rollups_add_nothing_the_second_time(clickhouse_server: Server) -> None:
    now_ms = time.time_ns() // 1_000_000
    drawn = draw(ROWS, seed=1, tenant=7, start_ms=now_ms - 60_000, span_ms=50_000, items=5, users=50)
    async with clickhouse.opened(settings(clickhouse_server)) as store:
        await schema.create(store, 1_000)
        ranges, rollups = RangeStore(store, "t"), RollupStore(store, "t")
        for _ in range(2):
            await ranges.write(whole(0), drawn.content(chunks=3))
            await rollups.write([whole(0)])
            assert (await store.query(f"SELECT count() FROM {schema.EV}")).rows == [(ROWS,)]
            for table in schema.ROLLUPS:
                assert (await store.query(f"SELECT sum(events) FROM {table}")).rows == [(ROWS,)], table


@pytest.mark.promise("ANALYTICS-2")
async def test_a_server_that_dies_and_comes_back_costs_the_writer_nothing_but_time(
    clickhouse_server: Server,
    kafka_address: str,
    frames_topic: str,
    frame_producer: frames.FrameProducer,
    tmp_path: Path,
) -> None:
    process = WriterProcess(kafka_address, frames_topic, clickhouse_server.dsn, tmp_path / "status")
    given = rows(ROWS)
    child = await process.start()
    try:
        await acknowledged(frame_producer, given[: ROWS // 2])
        await process.done(ROWS // 2)
        clickhouse_server.stop()
        await acknowledged(frame_producer, given[ROWS // 2 :])
        await clickhouse_server.start()
        await process.done(ROWS)
        assert child.returncode is None
    finally:
        await process.stop()
    counts = await process.counts()
    assert unequal(counts, ROWS) == {}, counts
