"""The writer looks up a few batches and items among very many, and reads little more than those.

Method: what the engine says that it reads of either table. The control is a table with the engine's own granules, as earlier versions
made it.
"""

import pytest

from groundswell.analytics.store import schema
from groundswell.kernel import clickhouse
from tests.analytics.conftest import Server

ROWS, WANTED = 500_000, 50
LEAST = WANTED * schema.FEW_ROWS * 2
"""Each in a granule of its own, whose neighbour may have to be read too."""
FILLED = {
    schema.BATCHES: f"SELECT toFixedString(unhex(hex(MD5(toString(number)))), 16), 0, number, now() FROM numbers({ROWS})",
    schema.ITEM_TOTALS: f"SELECT 0, 7, 'view', cityHash64(number), 1, 1, 0 FROM numbers({ROWS})",
}
SOUGHT = {
    schema.BATCHES: "_p = 0 AND digest IN (SELECT toFixedString(unhex(hex(MD5(toString(number * 9999)))), 16) FROM numbers({n}))",
    schema.ITEM_TOTALS: "(tenant, kind, item) IN (SELECT 7, 'view', cityHash64(number * 9999) FROM numbers({n}))",
}


@pytest.mark.parametrize("table", [schema.BATCHES, schema.ITEM_TOTALS])
async def test_a_few_rows_are_found_without_reading_eight_thousand_for_each(
    table: str, clickhouse_server: Server
) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        await store.execute(
            f"CREATE TABLE older ENGINE = MergeTree ORDER BY ({'_p, digest' if table == schema.BATCHES else 'tenant, kind, item'}) "
            f"SETTINGS index_granularity = 8192 AS SELECT * FROM {table} LIMIT 0"
        )
        read = {}
        for each in (table, "older"):
            await store.execute(f"INSERT INTO {each} {FILLED[table]}")
            await store.execute(f"OPTIMIZE TABLE {each} FINAL")
            found = await store.query(
                f"EXPLAIN ESTIMATE SELECT * FROM {each} WHERE {SOUGHT[table].format(n=WANTED)}", own=True
            )
            read[each] = sum(int(rows) for _, _, _, rows, _ in found.rows)
        assert WANTED <= read[table] <= LEAST < read["older"], read
