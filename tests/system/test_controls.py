"""DRILLS-10. The controls of the demo and of the drill, each with a protection switched off: both must find what is wrong.

They run side by side, since what they have to find is far greater than what either does to the other.
"""

import asyncio
from pathlib import Path

import pytest

from loadtests.oracles.reading import WRONG_STEADY_S
from loadtests.platform.installation import Installation
from loadtests.scenario import Verdict
from tests.system.test_drills import drill
from tests.system.test_placements import demo

pytestmark = pytest.mark.alone

SECONDS = 6
UNPROTECTED = {"WRITER_COMMIT_BEFORE_INSERT": "true", "WRITER_FLUSH_MS": "3000"}
"""The writer commits before it stores, so that what it dies in between with is lost: three seconds of rows, far more than what the kills
leave unknown."""


async def test_a_demo_and_a_drill_that_lose_something_end_with_another_code_and_name_it(home: Path) -> None:
    home.mkdir()
    Installation(home).arm("writer.after_intent=kill")
    unstored = demo(home, "--seconds", str(SECONDS), "--still", str(WRONG_STEADY_S), **UNPROTECTED)
    unkept = drill("brief", "--control", "journal-off")
    (code, verdict, said), drilled = await asyncio.gather(unstored, unkept)
    assert (code, verdict["ok"]) == (Verdict.FAILED.exit_code, False), said
    (stored,) = (finding for finding in verdict["findings"] if finding["name"] == "stored")
    assert (stored["holds"], stored["wrong"]) == (False, "lost"), said
    assert "THE BOOKS ARE WRONG" in said
    assert "FAILED at `stored`, as it must" in drilled.stdout, drilled.stdout + drilled.stderr
    assert drilled.returncode == 1
