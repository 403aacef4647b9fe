"""Answers are exact for any question, also while rollups are being added."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

SEEDS = (1, 20261124)


@pytest.mark.promise("ANALYTICS-9")
@pytest.mark.parametrize("seed", SEEDS)
async def test_any_question_is_answered_as_a_plain_model_does_while_rollups_are_added(
    tmp_path: Path, seed: int
) -> None:
    """Goal: no row is missing or there twice between a rollup and the raw rows beyond it, and none is another tenant's.
    Method: random questions against a store whose rollups grow meanwhile; its rows, all stored before, are the model."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.analytics.asked",
        str(tmp_path / "clickhouse"),
        str(seed),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await child.communicate()
    found = json.loads(told)
    assert found["asked"] > 100
    assert found["wrong"] == [], f"seed {seed}"
