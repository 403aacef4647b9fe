"""Every table drops an insert that it has: by what the store itself says of its tables, and by what it does."""

import time

import pyarrow as pa
import pytest

from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store import schema
from groundswell.kernel import clickhouse
from tests.analytics.conftest import Server

WINDOW_MIN = 20_000


@pytest.mark.promise("ANALYTICS-2")
async def test_every_table_of_the_store_drops_an_insert_whose_token_it_has(clickhouse_server: Server) -> None:
    """Goal: no table is left at the engine's default, which counts twice. Control: tables that were made without a window do."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 0)
        assert await windows(store) == dict.fromkeys(schema.TABLES, 0)
        assert await inserted_twice(store, "control") == dict.fromkeys(schema.TABLES, 2)
        window = WriterSettings().deduplication_window
        await schema.create(store, window)
        assert await windows(store) == dict.fromkeys(schema.TABLES, window)
        assert window >= WINDOW_MIN
        assert await inserted_twice(store, "once") == dict.fromkeys(schema.TABLES, 1)


async def windows(store: clickhouse.ClickHouse) -> dict[str, int]:
    """What `system.tables` says of each table that keeps rows; -1 where it says nothing, and the engine's default holds."""
    found = await store.query(
        "SELECT concat(database, '.', name), toInt64OrDefault(extract(engine_full, 'non_replicated_deduplication_window = (\\\\d+)'), "
        "toInt64(-1)) FROM system.tables WHERE database = {name:String} AND engine LIKE '%MergeTree'",
        {"name": schema.DATABASE},
    )
    return {str(table): int(window) for table, window in found.rows}


async def inserted_twice(store: clickhouse.ClickHouse, token: str) -> dict[str, int]:
    """How many rows, or events of a rollup, two inserts of one row under one token come to in each table."""
    added = {}
    for table in schema.TABLES:
        if table in schema.ROLLUPS:
            row, figure = {"events": pa.array([1], pa.uint64())}, "sum(events)"
        else:  # stored now, or the table would forget it at once
            row, figure = {"_t": pa.array([int(time.time())]).cast(pa.timestamp("s", "UTC"))}, "count()"
        before = (await store.query(f"SELECT {figure} FROM {table}")).rows[0][0]
        for _ in range(2):
            await store.insert(table, pa.table(row), f"{table}:{token}")
        added[table] = int((await store.query(f"SELECT {figure} FROM {table}")).rows[0][0] - before)
    return added
