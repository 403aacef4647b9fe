"""Homes of platforms; what a test leaves running is ended with it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import browser as browser


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a short path, since sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-system-"))
    yield folder / "home"
    subprocess.run(
        [sys.executable, "-m", "groundswell", "down", "--home", str(folder / "home")], capture_output=True, check=False
    )
    shutil.rmtree(folder, ignore_errors=True)
