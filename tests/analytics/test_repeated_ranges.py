"""A range that is stored and rolled up again adds nothing, however its rows lie by then."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from groundswell.analytics.store import schema
from tests.analytics.repeated_ranges import PAIR_ROWS, ROWS


@pytest.mark.promise("ANALYTICS-2")
async def test_a_range_that_is_stored_and_rolled_up_again_adds_nothing_however_its_rows_lie(tmp_path: Path) -> None:
    """Goal: no replay counts twice. Method: repeat with the rows in other chunks, other parts and under other tokens; the control
    does not ask the markers."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.analytics.repeated_ranges",
        str(tmp_path / "clickhouse"),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await child.communicate()
    found = json.loads(told)
    tables = ("ev", *schema.ROLLUPS)
    for moment in ("once", "by tokens", "by markers", "one table ahead"):
        assert {table: found[moment][table] for table in tables} == dict.fromkeys(tables, ROWS), moment
    assert all(found["control"][table] > ROWS for table in schema.ROLLUPS)
    assert (found["token without rows"]["ev"], found["token without rollup"][schema.EV_1S]) == (0, 0), (
        "tokens alone lose rows"
    )
    assert (found["counted first"]["ev"], found["counted first"][schema.EV_1S]) == (ROWS, ROWS)
    with_pair = {table: found["counted first"][table] + PAIR_ROWS for table in schema.ROLLUPS}
    for moment in ("a pair", "each of the pair"):
        assert {table: found[moment][table] for table in schema.ROLLUPS} == with_pair, moment
