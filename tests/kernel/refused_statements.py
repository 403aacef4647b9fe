"""Prints what an embedded store's refusals become: of its inserts, and of its other statements.

A program of its own, because a process may open one embedded store only.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import chdb
import pyarrow as pa

from groundswell.kernel import clickhouse

FULL = "ENGINE = MergeTree ORDER BY x SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 0"
"""A table that takes one part."""
ROWS = pa.table({"x": pa.array(range(1_000), pa.uint64())})


async def became(statement: Awaitable[object]) -> str:
    try:
        await statement
    except Exception as error:  # whatever it is, it is what is told
        return type(error).__name__
    return ""


def beyond_memory(dsn: str) -> str:
    """An insert that may take less memory than its rows need: no setting of ours gives inserts a limit, a server's may."""
    columns = pa.table({"x": pa.array(range(100_000), pa.uint64()), "s": pa.array(["y" * 1_000] * 100_000)})  # noqa: F841  # the engine reads it by its name
    connect: Any = chdb.connect
    engine = connect(dsn.removeprefix(clickhouse.EMBEDDED))
    try:
        engine.query("INSERT INTO wide SELECT x, s FROM Python(columns) SETTINGS max_memory_usage = 1000000")
    except Exception as error:
        return type(clickhouse.ours(error)).__name__
    finally:
        engine.close()
    return ""


async def main(dsn: str) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=dsn, niceness=0)) as store:
        await store.execute(f"CREATE TABLE full (x UInt64) {FULL}")
        await store.execute("CREATE TABLE wide (x UInt64, s String) ENGINE = MergeTree ORDER BY x")
        await store.insert("full", ROWS, "the part that there is room for")
        told = {
            "insert, no room": await became(store.insert("full", ROWS, "one more")),
            "statement, no room": await became(store.execute("INSERT INTO full SELECT 1")),
            "insert, no table": await became(store.insert("nowhere", ROWS, "one more")),
            "insert, no memory": await asyncio.to_thread(beyond_memory, dsn),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
