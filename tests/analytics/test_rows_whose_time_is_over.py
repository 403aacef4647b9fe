"""Rows whose time is over are taken out every few days, since that writes the whole part again.

Goal: what a store does all day does not grow with its age. Method: a store of an earlier version after this version's start; rows that are
over go at once, as nothing was taken out before, and the next ones stay. In the control, a table that is told to rest for a second, they
go too.
"""

import asyncio
import time

from groundswell.analytics.model.questions import DAY_MS
from groundswell.analytics.store import schema
from groundswell.kernel import clickhouse
from tests.analytics.conftest import TENANT, Server
from tests.analytics.older_store import OLD_TABLES

RESTED, CONTROL = schema.EV_1S, schema.EV_1M
OVER_S = int(time.time()) - 100 * DAY_MS // 1000
LONG_S = 120


async def test_a_part_is_not_written_again_every_few_hours_for_the_rows_whose_time_is_over(
    clickhouse_server: Server,
) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        for statement in filter(str.strip, OLD_TABLES.read_text().split(";\n")):
            await store.execute(statement)
        await schema.create(store, 1_000)
        assert await pauses_s(store) == dict.fromkeys(schema.TABLES, schema.TTL_PAUSE_S)
        await store.execute(f"ALTER TABLE {CONTROL} MODIFY SETTING merge_with_ttl_timeout = 1")
        for table in (RESTED, CONTROL):
            await add(store, table)
        await gone(store, RESTED)
        await gone(store, CONTROL)
        for table in (RESTED, CONTROL):
            await add(store, table)
        await gone(store, CONTROL)
        assert await held(store, RESTED) == 1


async def pauses_s(store: clickhouse.ClickHouse) -> dict[str, int]:
    """How long each table rests; 0 where it does not say."""
    found = await store.query(
        "SELECT concat(database, '.', name), toInt64OrZero(extract(engine_full, 'merge_with_ttl_timeout = (\\\\d+)')) "
        f"FROM system.tables WHERE database = '{schema.DATABASE}' AND endsWith(engine, 'MergeTree')"
    )
    return {str(table): int(seconds) for table, seconds in found.rows}


async def add(store: clickhouse.ClickHouse, table: str) -> None:
    """A part with a row whose time is over and another tenant's, of now: one with nothing else would go without being written again."""
    await store.execute(
        f"INSERT INTO {table} (_p, tenant, kind, at, events) "
        f"SELECT 0, {TENANT} + number, 'view', if(number = 0, toDateTime({OVER_S}), now()), 1 FROM numbers(2)"
    )


async def held(store: clickhouse.ClickHouse, table: str) -> int:
    return int((await store.query(f"SELECT sum(events) FROM {table} WHERE tenant = {TENANT}")).rows[0][0])


async def gone(store: clickhouse.ClickHouse, table: str) -> None:
    async with asyncio.timeout(LONG_S):
        while await held(store, table):
            await asyncio.sleep(0.1)
