"""The drill event-kill in its small form, and one of its controls in its briefest: the others run with `make drill CONTROL=all`."""

import asyncio
import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

RUNS_MAX = 3
INVALID = 2


async def drill(profile: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests", "drill", "event-kill", "--profile", profile, *options]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


@pytest.mark.promise("ANALYTICS-2", "LINKS-5")
async def test_no_click_is_lost_or_doubled_while_every_process_is_killed() -> None:
    """A run whose load or kills did not come as ordered says so, and shows too little: it is run again, whatever its numbers, which must
    all be right."""
    for seed in range(1, RUNS_MAX + 1):
        done = await drill("small", "--seed", str(seed))
        if done.returncode != INVALID:
            break
    assert "✗ stored" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_control_without_a_journal_loses_clicks() -> None:
    """DRILLS-10. Goal: the drill can fail."""
    done = await drill("brief", "--control", "journal-off")
    assert "FAILED at `stored`, as it must" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
