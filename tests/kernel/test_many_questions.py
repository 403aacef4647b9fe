"""Whoever writes to a store does not wait for those who ask it."""

import asyncio
import json
import sys


async def test_however_many_questions_are_asked_the_processs_own_statements_go_on(clickhouse_dsn: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kernel.many_questions", clickhouse_dsn, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await child.communicate()
    assert json.loads(told) == {"rows": 4, "unanswered": 24}
