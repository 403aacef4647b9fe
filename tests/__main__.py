"""`python -m tests`: all tests, in two or three runs of pytest; behind `--of` those of some folders. With other arguments it is pytest.

Most tests wait more than they work, and stand beside others. Those with a control plane wait most, and stand beside each other, each
session with a plane of its own, so that what works keeps none of them waiting; where its programs are not built they are skipped with the
first. Those marked `alone` measure, or count what a machine refuses that has something else to do: they come afterwards, one after the
other.

The folders of tests are in memory where there is room: the engines' stores are made of small files by the hundred thousand, which some file
systems take ten times as long to make once many were removed (ext4 without a journal looks at each that is gone for a minute or five).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psutil

from groundswell.__main__ import NO_HELPERS
from tests import FOLDERS, SHARED
from tests.cluster.tools.families import shelf

BESIDE = ("-n", "4", "--dist", "loadfile", "--no-loadscope-reorder")
ALONE = ("-m", "alone")
FOUND_NONE = 5
"""pytest's code where an expression is true of no test."""
IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 10 << 30
"""What a memory file system, and the memory behind it, must have left to be used: three times what a run takes."""


def main(words: list[str]) -> int:
    """Returns the exit code of the first run that failed."""
    of = words[1:] if words[:1] == ["--of"] else []
    if words and not of:
        return _pytest(words)
    with tempfile.TemporaryDirectory(prefix="groundswell-shared-") as shared:
        codes = [_pytest([*each, *of], {SHARED: shared, **_in_memory()}) for each in _runs()]
    return next((each for each in codes if each not in (0, FOUND_NONE)), 0)


def _runs() -> list[tuple[str, ...]]:
    if shelf().missing():
        return [(*BESIDE, "-m", "not alone"), ALONE]
    return [(*BESIDE, "-m", "not alone and not plane"), (*BESIDE, "-m", "plane and not alone"), ALONE]


def _in_memory() -> dict[str, str]:
    """Where pytest makes its folders: in a memory file system where there is one with room that takes programs too, or where it would."""
    if FOLDERS in os.environ or not os.access(IN_MEMORY, os.W_OK):
        return {}
    found = os.statvfs(IN_MEMORY)
    room = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    return {FOLDERS: str(IN_MEMORY)} if room >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC else {}


def _pytest(words: list[str], settings: Mapping[str, str] = MappingProxyType({})) -> int:
    """Modules are kept compiled: the tests start processes by the hundred."""
    environment = {**os.environ, **settings}
    environment.setdefault(*NO_HELPERS)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run([sys.executable, "-m", "pytest", *words], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
