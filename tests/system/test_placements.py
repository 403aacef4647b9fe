"""The whole platform in both placements: a link goes viral while processes are killed, and every number is equal."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from loadtests import scenario
from loadtests.oracles.reading import WRONG_STEADY_S
from loadtests.platform.installation import Installation
from loadtests.scenario import Verdict
from tests.browser import CHROMIUM

pytestmark = pytest.mark.alone

SECONDS, SECONDS_WRONG = 32, 6
"""The first is long enough for a slow machine: each kill waits until the process is back that the one before ended, and in one process with
everything two of the three are the same."""
BACK_S_MAX = 15.0
UNPROTECTED = {"WRITER_COMMIT_BEFORE_INSERT": "true", "WRITER_FLUSH_MS": "3000"}
"""The writer commits before it stores, so that what it dies in between with is lost: three seconds of rows, far more than what the kills
leave unknown."""


async def demo(home: Path, *options: str, **settings: str) -> tuple[int, dict[str, Any], str]:
    """The demo as its user runs it, on a free port: its exit code, its verdict for machines and what it says."""
    told = home.parent / "verdict.json"
    command = [sys.executable, "-m", "loadtests", "demo", "--stop", "--home", str(home), "--port", "0"]
    command += ["--json", str(told), *options]
    environment = {**os.environ, **settings}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode in {each.exit_code for each in Verdict}, done.stdout + done.stderr
    return done.returncode, json.loads(told.read_text()), done.stdout


@pytest.mark.promise("ANALYTICS-2", "LINKS-5")
@pytest.mark.parametrize("topology", ["all", *([] if CHROMIUM else ["each"])])
async def test_the_demo_ends_with_equal_numbers_and_leaves_no_process(home: Path, topology: str) -> None:
    """Goal: placement changes no number. Method: the demo as its user runs it, shortened; then nobody may be left whose home this was.
    With a browser the other placement is looked at in its live page (test_live_page.py).

    A run whose load or kills did not come as ordered shows too little, and is repeated once, which the session's warnings tell; its
    numbers must be right all the same."""
    options = ["--seconds", str(SECONDS), "--topology", topology]
    code, verdict, said = await demo(home, *options)
    assert_equal(verdict, said)
    if code == Verdict.INVALID.exit_code:
        warnings.warn(f"a demo ({topology}) showed too little, and is repeated: {verdict['doubts']}", stacklevel=1)
        code, verdict, said = await demo(home, *options)
        assert_equal(verdict, said)
    assert (code, verdict["ok"]) == (Verdict.PASSED.exit_code, True), said
    assert verdict["answered"] > 5_000
    assert [kill["victim"] for kill in verdict["kills"]] == ["writer", "gateway", "kafka"]
    assert not [
        each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])
    ]


def assert_equal(verdict: dict[str, Any], said: str) -> None:
    """Every number of a run is the same, and every judgement over them holds."""
    numbers = {verdict[name] for name in ("stored", "rollups", "totals", "click_count", "live")}
    assert numbers == {verdict["stored"]}, said
    assert all(finding["holds"] for finding in verdict["findings"]), said


async def test_a_demo_that_loses_rows_ends_with_another_code_and_names_what_was_lost(home: Path) -> None:
    """The control: the demo can fail. Method: a protection is switched off, and the writer dies where it had protected."""
    home.mkdir()
    Installation(home).arm("writer.after_intent=kill")
    options = ["--seconds", str(SECONDS_WRONG), "--still", str(WRONG_STEADY_S)]
    code, verdict, said = await demo(home, *options, **UNPROTECTED)
    assert (code, verdict["ok"]) == (Verdict.FAILED.exit_code, False), said
    (stored,) = (finding for finding in verdict["findings"] if finding["name"] == "stored")
    assert (stored["holds"], stored["wrong"]) == (False, "lost"), said
    assert "THE BOOKS ARE WRONG" in said


@pytest.mark.promise("LINKS-4")
async def test_one_process_that_holds_everything_redirects_again_while_an_engine_is_away(home: Path) -> None:
    """Goal: the small placement needs no engine to start either, though tenancy, identity and the store are in it."""
    platform = Installation(home)
    await platform.up("all", port=0)
    tenant = await scenario.prepare(platform, "alone", 5)
    await scenario.warm(platform, tenant)
    async with httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client:

        async def all_redirect() -> bool:
            try:
                answers = [await client.get(link.path, headers={"Host": link.host}) for link in tenant.links]
            except httpx.TransportError:
                return False
            return all(answer.status_code == 302 and "groundswell-view" in answer.headers for answer in answers)

        assert await all_redirect()
        for engine in ("kafka", "postgres", "valkey"):
            await platform.stop(engine)
            pid = platform.signal("all", signal.SIGKILL)
            async with asyncio.timeout(BACK_S_MAX):
                while not await all_redirect():
                    await asyncio.sleep(0.1)
            await platform.start(engine)
            await platform.ready("all", BACK_S_MAX, other_than=pid)
            assert await all_redirect()
