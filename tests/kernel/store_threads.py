"""Prints the nice values of this process's own thread, and of all threads that an embedded store starts for a statement.

A program of its own, because the engine's threads outlive the store.
"""

import asyncio
import json
import os
import sys
import threading

from groundswell.kernel import clickhouse


async def main(folder: str) -> None:
    before = set(os.listdir("/proc/self/task"))
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}")) as store:
        await store.query("SELECT sum(number) FROM numbers_mt(1000000)")
        started = set(os.listdir("/proc/self/task")) - before
        theirs = [os.getpriority(os.PRIO_PROCESS, int(task)) for task in started]
    print(json.dumps({"own": os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), "theirs": theirs}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
