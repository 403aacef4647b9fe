"""The raw rows of an hour that is over lie in one part for each partition of the log.

Goal: a month of raw rows stays far below the parts that the engine allows a table, above which it takes nothing more. Method: hours of
many small parts, whose age is made to count in seconds; the control asks for parts of an age that these never reach.
"""

import asyncio

import pytest

from groundswell.analytics.model.questions import HOUR_MS
from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.kernel import clickhouse
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import draw

HOURS, PARTS = 3, 5
START_MS = 1_796_000_000_000 // HOUR_MS * HOUR_MS
TOO_YOUNG_S = 3


@pytest.mark.promise("ANALYTICS-2")
async def test_raw_rows_of_an_hour_that_is_over_become_one_part(clickhouse_server: Server) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        for part in range(PARTS):
            drawn = draw(600, seed=part, tenant=TENANT, start_ms=START_MS, span_ms=HOURS * HOUR_MS, items=9, users=9)
            await RangeStore(store, "f").write(Range(0, part * 100, part * 100 + 99), drawn.content())
        before = await parts_and_rows(store)
        assert [parts for parts, _ in before.values()] == [PARTS] * HOURS, "no merge wants so few"
        assert await age_s(store) == schema.RAW_WHOLE_AFTER_S
        await asyncio.sleep(TOO_YOUNG_S)
        assert await parts_and_rows(store) == before
        await store.execute(f"ALTER TABLE {schema.EV} MODIFY SETTING min_age_to_force_merge_seconds = 1")
        async with asyncio.timeout(60):
            while await parts_and_rows(store) != {hour: (1, rows) for hour, (_, rows) in before.items()}:
                await asyncio.sleep(0.2)


async def parts_and_rows(store: clickhouse.ClickHouse) -> dict[str, tuple[int, int]]:
    """In how many parts the raw rows of each hour lie, and how many they are."""
    found = await store.query(
        "SELECT partition, count(), sum(rows) FROM system.parts WHERE active AND table = 'ev' GROUP BY partition"
    )
    return {str(hour): (int(parts), int(rows)) for hour, parts, rows in found.rows}


async def age_s(store: clickhouse.ClickHouse) -> int:
    """How old the youngest part of an hour is that is taken for over; 0 where the table does not say."""
    found = await store.query(
        "SELECT toInt64OrZero(extract(engine_full, 'min_age_to_force_merge_seconds = (\\\\d+)')) "
        "FROM system.tables WHERE name = 'ev'"
    )
    return int(found.rows[0][0])
