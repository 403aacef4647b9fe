"""Homes of platforms; what a test leaves running is ended with it, and what a platform said is told where a test fails."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from loadtests.platform.installation import Installation
from tests.browser import browser as browser

LINES_TOLD = 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the ends of the platform's logs to a failure: the home is gone afterwards."""
    report = yield
    given = getattr(item, "funcargs", {}).values() if report.when == "call" and report.failed else ()
    homes = {
        each.home if isinstance(each, Installation) else each for each in given if isinstance(each, Installation | Path)
    }
    for log in sorted(log for home in homes for log in (home / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-LINES_TOLD:]
        report.sections.append((f"the end of {log.name}", "\n".join(lines)))
    return report


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a short path, since sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-system-"))
    yield folder / "home"
    subprocess.run(
        [sys.executable, "-m", "groundswell", "down", "--home", str(folder / "home")], capture_output=True, check=False
    )
    shutil.rmtree(folder, ignore_errors=True)
