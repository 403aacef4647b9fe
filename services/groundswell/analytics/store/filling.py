"""A rollup that is new to a store, filled from the finer one of its kind before anybody adds to it.

It is made under a name of its own and gets its name last, in one step: who finds the table finds it whole, and a fill that was cut short
is begun again from nothing. A partition is read in one statement, so its rows and its marker are of one moment.

Several writers may do it at once. Each fills a table of its own, the first one names it, and the others drop theirs. A process adds to
rollups only when all tables and what feeds them are there, so no copy that gets the name lacks what a process of this version has
added. What a writer of an earlier version adds meanwhile is beyond the new table's marker; whoever takes the partition over from it
adds that from the raw rows, as it does with every rollup that is behind the others (`consumers.rollups`).
"""

import secrets
from collections.abc import Callable

from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, QueryFailed

_OPTIONS: dict[str, str | int] = {
    "optimize_aggregation_in_order": 1,
    "max_threads": 1,
    "insert_deduplicate": 0,
    "async_insert": 0,
}
"""Groups come in the order of the finer table's key, so that only those of one hour or item are in memory."""


async def make(store: ClickHouse, table: str, definition: Callable[[str], str], source: str, rows: str) -> None:
    """Makes `table` where it is not there. `definition` is its statement under a name; `rows` reads a partition of `source`."""
    if not await _is_there(store, table):
        try:
            await _fill(store, table, definition, source, rows)
        except QueryFailed:  # somebody else was first, and has dropped what we had of it
            if not await _is_there(store, table):
                raise
    await _drop_drafts(store, table)


async def _fill(store: ClickHouse, table: str, definition: Callable[[str], str], source: str, rows: str) -> None:
    draft = f"{table}_filling_{secrets.token_hex(4)}"
    await store.execute(definition(draft))
    found = await store.query(f"SELECT DISTINCT _p FROM {source} ORDER BY _p", own=True)
    for (partition,) in found.rows:
        await store.execute(f"INSERT INTO {draft} {rows}", {"p": partition}, _OPTIONS)
        failpoints.reach("store.amid_fill")
    failpoints.reach("store.before_name")
    await store.execute(f"RENAME TABLE {draft} TO {table}")


async def _is_there(store: ClickHouse, table: str) -> bool:
    answer = await store.query(f"EXISTS TABLE {table}", own=True)
    return bool(answer.rows[0][0])


async def _drop_drafts(store: ClickHouse, table: str) -> None:
    """What was cut short, and what came second, also while its process is still at it: it finds the table instead."""
    database, _, name = table.partition(".")
    drafts = await store.query(
        "SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, {begin:String})",
        {"database": database, "begin": f"{name}_filling_"},
        own=True,
    )
    for (draft,) in drafts.rows:
        await store.execute(f"DROP TABLE IF EXISTS {database}.{draft}")
