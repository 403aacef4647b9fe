"""The demo as its user breaks it off."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.platform.installation import ROOT, Installation

INTERRUPTED = 130
DEMO = [sys.executable, "-m", "loadtests", "demo", "--port", "0", "--seconds", "30"]
TOGETHER = ("--topology", "all")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a short path, since sockets lie in it; what runs there ends with the test."""
    with tempfile.TemporaryDirectory(prefix="groundswell-demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        yield home
        down = [sys.executable, "-m", "groundswell", "down", "--home", str(home)]
        subprocess.run(down, capture_output=True, check=False)


def broken_off(home: Path, *options: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a demo that gets ctrl-C once its load begins; it hears of that also where these tests do not."""

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [*DEMO, "--home", str(home), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=hear) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line.rstrip())
            if "] sending " in line:
                demo.send_signal(signal.SIGINT)
    return demo.returncode, lines


def test_a_demo_that_is_broken_off_says_that_the_platform_stays_up_and_how_to_stop_it(home: Path) -> None:
    """Method: what it prints is done, after a second demo, which takes the platform as it runs."""
    for options in (TOGETHER, ()):
        code, lines = broken_off(home, *options)
        assert code == INTERRUPTED
        assert Installation(home).topology == "all"
    told, _, command = lines[-1].partition("stop it with: ")
    assert "the platform stays up" in told
    subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert Installation(home).topology is None


def test_a_demo_that_is_broken_off_stops_the_platform_when_it_was_told_to(home: Path) -> None:
    code, lines = broken_off(home, "--stop", *TOGETHER)
    assert code == INTERRUPTED
    assert "nothing runs" in lines[-1]
    assert Installation(home).topology is None
