"""The whole platform in both placements: a link goes viral while processes are killed, and every number is equal."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SECONDS = 16


@pytest.mark.promise("ANALYTICS-2", "LINKS-5")
@pytest.mark.parametrize("topology", ["all", "each"])
async def test_the_demo_ends_with_equal_numbers_and_leaves_no_process(home: Path, topology: str) -> None:
    """Goal: placement changes no number. Method: the demo as its user runs it, shortened; then nobody may be left whose home this was."""
    told = home.parent / "verdict.json"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "loadtests", "demo", "--stop", "--seconds", str(SECONDS), "--topology", topology,
         "--home", str(home), "--port", "0", "--json", str(told)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    verdict = json.loads(told.read_text())
    numbers = {verdict[name] for name in ("stored", "rollups", "totals", "click_count", "live")}
    assert numbers == {verdict["stored"]}, done.stdout
    assert all(finding["holds"] for finding in verdict["findings"]), done.stdout
    assert verdict["answered"] > 5_000
    assert [kill["victim"] for kill in verdict["kills"]] == ["writer", "gateway", "kafka"]
    assert not [
        each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])
    ]
