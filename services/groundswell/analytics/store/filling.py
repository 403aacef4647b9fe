"""A rollup that is new to a store, filled from the finer one of its kind before anybody adds to it.

It is made under a name of its own and gets its name last, in one step: who finds the table finds it whole. A partition is read in one
statement, so its rows and its marker are of one moment, and gets into the new table in one step too. So a fill that was cut short
has whole partitions, and whoever begins again under the same name goes on behind them.

Several writers may do it at once. Each fills a table of its own, the first one names it, and the others drop theirs. A process adds to
rollups only when all tables and what feeds them are there, so no copy that gets the name lacks what a process of this version has
added. What a writer of an earlier version adds meanwhile is beyond the new table's marker; whoever takes the partition over from it
adds that from the raw rows, as it does with every rollup that is behind the others (`consumers.rollups`), or where those are no longer
there has the partition filled again.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from groundswell.kernel import failpoints
from groundswell.kernel.clickhouse import ClickHouse, QueryFailed

_OPTIONS: dict[str, str | int] = {
    "optimize_aggregation_in_order": 1,
    "max_threads": 1,
    "insert_deduplicate": 0,
    "async_insert": 0,
}
"""Groups come in the order of the finer table's key, so that only those of one hour or item are in memory."""
_HELD = "SELECT DISTINCT _p FROM {table} WHERE tenant = 0 AND kind = '' ORDER BY _p"


@dataclass(frozen=True, slots=True)
class Filling:
    """A table, its statement under a name, and where its rows come from: `rows` reads a partition of `source`."""

    table: str
    definition: Callable[[str], str]
    source: str
    rows: str


async def make(store: ClickHouse, of: Filling, instance: str = "") -> None:
    """Makes the table where it is not there, going on with what a process of the name `instance` has left; without one, from nothing."""
    if not await _is_there(store, of.table):
        known = blake2b(instance.encode(), digest_size=4).hexdigest() if instance else secrets.token_hex(4)
        try:
            await _fill(store, of, f"{of.table}_filling_{known}")
        except QueryFailed:  # somebody else was first, and has dropped what we had of it
            if not await _is_there(store, of.table):
                raise
    await _drop_drafts(store, f"{of.table}_filling_")


async def again(store: ClickHouse, of: Filling, partition: int, options: Mapping[str, str | int]) -> None:
    """Puts in the place of a partition of the table what its source holds: for whoever alone adds to this partition."""
    await _copy(store, of.table, f"{of.table}_again_{partition}_", of.rows, partition, options)


async def _fill(store: ClickHouse, of: Filling, draft: str) -> None:
    await store.execute(of.definition(draft))
    held = await store.query(_HELD.format(table=draft), own=True)
    found = await store.query(_HELD.format(table=of.source), own=True)
    for (partition,) in found.rows:
        if (partition,) not in {tuple(row) for row in held.rows}:
            await _copy(store, draft, f"{draft}_part_", of.rows, int(partition), {})
            failpoints.reach("store.amid_fill")
    failpoints.reach("store.before_name")
    await store.execute(f"RENAME TABLE {draft} TO {of.table}")


async def _copy(
    store: ClickHouse, into: str, begin: str, rows: str, partition: int, options: Mapping[str, str | int]
) -> None:
    """Puts rows in the place of a partition, by way of a table whose name begins so and is nobody else's.

    Who began before, and wakes up amid this, finds his own gone: he may not add to this copy, nor put half of it in place.
    """
    await _drop_drafts(store, begin)
    beside = f"{begin}{secrets.token_hex(4)}"
    # As the table is, which may be of a version that parted its rows otherwise.
    await store.execute(f"CREATE TABLE {beside} AS {into}")
    await store.execute(f"INSERT INTO {beside} {rows}", {"p": partition}, _OPTIONS | dict(options))
    made = await store.query(f"SELECT DISTINCT _partition_id FROM {beside}", own=True)
    for (name,) in made.rows:
        await store.execute(f"ALTER TABLE {into} REPLACE PARTITION ID '{name}' FROM {beside}")
    await _drop(store, beside)


async def _is_there(store: ClickHouse, table: str) -> bool:
    answer = await store.query(f"EXISTS TABLE {table}", own=True)
    return bool(answer.rows[0][0])


async def _drop_drafts(store: ClickHouse, begin: str) -> None:
    """What was cut short, and what came second, also while its process is still at it: it finds the table instead."""
    database, _, name = begin.partition(".")
    drafts = await store.query(
        "SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, {begin:String})",
        {"database": database, "begin": name},
        own=True,
    )
    for (draft,) in drafts.rows:
        await _drop(store, f"{database}.{draft}")


async def _drop(store: ClickHouse, table: str) -> None:
    """A draft may be as big as a rollup: the engine's guard against drops of more than 50 GB is for tables that somebody needs."""
    await store.execute(f"DROP TABLE IF EXISTS {table} SYNC SETTINGS max_table_size_to_drop = 0")
