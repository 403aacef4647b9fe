"""Asks more questions than a store has threads for, none of which ends, and prints what the process's own work comes to meanwhile.

A program of its own, because a process may open one embedded store only; it does not wait for its questions.
"""

import asyncio
import json
import os
import sys

import pyarrow as pa

from groundswell.kernel import clickhouse

QUESTIONS = 24
LONG_S = 600.0
WAIT_S = 60.0


async def main(dsn: str) -> None:
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=dsn, niceness=0, query_s_max=LONG_S)) as store:
        await store.execute("CREATE TABLE written (x UInt64) ENGINE = MergeTree ORDER BY x")
        endless = "SELECT sleepEachRow(0.1) FROM numbers(100000) SETTINGS max_block_size = 1"
        asked = [asyncio.ensure_future(store.query(endless)) for _ in range(QUESTIONS)]
        await asyncio.sleep(0)  # all of them are in a queue now
        told: dict[str, int] = {}
        try:
            async with asyncio.timeout(WAIT_S):
                await store.insert("written", pa.table({"x": pa.array(range(3), pa.uint64())}), "once")
                await store.execute("INSERT INTO written SELECT 3")
                told["rows"] = (await store.query("SELECT count() FROM written", own=True)).rows[0][0]
            told["unanswered"] = sum(not each.done() for each in asked)
        finally:
            print(json.dumps(told), flush=True)
            os._exit(0)  # nobody waits for the questions


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
