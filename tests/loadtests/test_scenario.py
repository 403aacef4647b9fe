"""A run as a whole: how long its load may be, and a load that never begins."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from groundswell.analytics.model import window
from groundswell.engines import ports
from loadtests import demo, scenario
from loadtests.generator.child import GeneratorFailed
from loadtests.generator.order import LOG
from loadtests.oracles import reading
from loadtests.platform.api import Link
from loadtests.platform.installation import ROOT, Installation
from loadtests.scenario import Tenant

HANGS_S = 60.0
"""Nothing here takes so long unless it never ends."""


async def test_a_load_whose_generator_dies_at_its_start_is_told_and_waited_for_by_nobody(tmp_path: Path) -> None:
    """Method: a folder lies where its log belongs. No door is asked by then."""
    credentials = {"url": f"http://127.0.0.1:{ports.draw(1)[0]}", "platform_key": "", "api_key": ""}
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))
    (tmp_path / LOG).mkdir()
    tenant = Tenant("tenants/2", "key", [Link(str(number), "shop.localhost", f"/{number}") for number in range(5)])
    async with asyncio.timeout(HANGS_S):
        with pytest.raises(GeneratorFailed):
            await scenario.run(
                Installation(tmp_path), tenant, demo.plan_of(2, 1, 50), [], tmp_path, lambda *_: None, lambda _: None
            )


def test_the_live_page_holds_the_whole_load_when_the_books_are_read() -> None:
    """The load tests import no service; so its window is known here by number."""
    assert scenario.LIVE_WINDOW_S == window.WINDOW_S
    assert scenario.LOAD_S_MAX + reading.PATIENCE_S < window.WINDOW_S


@pytest.mark.parametrize("text", ["676", "0", "-5", "nan", "inf", "long"])
def test_a_demo_longer_than_the_live_page_holds_is_refused_with_the_reason(text: str) -> None:
    command = [sys.executable, "-m", "loadtests", "demo", f"--seconds={text}", "--home", "/dev/null/none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"a number of seconds up to 675, not '{text}': the live page, which is judged, holds 900" in done.stderr
