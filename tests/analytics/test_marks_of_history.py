"""What a writer reads before it stores: it must neither grow with all that was stored nor stop at what a caller may ask."""

import asyncio
import json
import sys

import pytest


@pytest.mark.promise("ANALYTICS-2")
async def test_a_writer_finds_the_newest_frame_of_each_producer_whatever_callers_may_take(clickhouse_dsn: str) -> None:
    """Goal: a long history never keeps a writer from starting, and is not read as a whole. Method: as `marks_of_history` says; the
    control is a question like a caller's, which is refused."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.analytics.marks_of_history", clickhouse_dsn, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await child.communicate()
    found = json.loads(told)
    assert found["wrong"] == []
    assert found["refused"]
    assert "ReadFromMergeTree (marks)" in found["plan"]
