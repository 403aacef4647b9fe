"""What the store refuses is told apart: what passes, so that whoever writes waits for it; what asks too much; and our own mistakes.

Goal: no refusal that passes ends a process. Method: the embedded engine's own refusals where it can be brought to them, else its words.
"""

import asyncio
import json
import sys

import pytest

from groundswell.kernel import clickhouse

PASSES = {
    75: "Cannot write to file: , errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)",
    202: "Too many simultaneous queries. Maximum: 100. (TOO_MANY_SIMULTANEOUS_QUERIES)",
    236: "Shutdown is called for table. (ABORTED)",
    243: "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)",
    252: "Too many parts (3000). (TOO_MANY_PARTS)",
    394: "Query was cancelled. (QUERY_WAS_CANCELLED)",
}


async def test_what_an_embedded_store_refuses_is_an_error_of_ours(clickhouse_dsn: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kernel.refused_statements", clickhouse_dsn, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await child.communicate()
    assert json.loads(told) == {
        "insert, no room": "StoreUnavailable",
        "statement, no room": "StoreUnavailable",
        "insert, no table": "QueryFailed",
        "insert, no memory": "StoreOverloaded",
    }


@pytest.mark.parametrize("code", PASSES)
def test_what_the_store_says_while_it_cannot_work_is_waited_for(code: int) -> None:
    error = clickhouse.ours(RuntimeError(f"Code: {code}. DB::Exception: {PASSES[code]}"))
    assert isinstance(error, clickhouse.StoreUnavailable)
