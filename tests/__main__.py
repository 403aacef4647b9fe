"""`python -m tests`: all tests, in two or three runs of pytest; behind `--of` those of some folders. With other arguments it is pytest.

Most tests wait more than they work, and stand beside others. Those with a control plane wait most, and stand beside each other, each
session with a plane of its own, so that what works keeps none of them waiting; where its programs are not built they are skipped with the
first. Those marked `alone` measure, or count what a machine refuses that has something else to do: they come afterwards, one after the
other.
"""

import os
import subprocess
import sys
import tempfile

from tests import SHARED
from tests.cluster.tools.families import shelf

BESIDE = ("-n", "4", "--dist", "loadfile", "--no-loadscope-reorder")
ALONE = ("-m", "alone")
FOUND_NONE = 5
"""pytest's code where an expression is true of no test."""


def main(words: list[str]) -> int:
    """Returns the exit code of the first run that failed."""
    of = words[1:] if words[:1] == ["--of"] else []
    if words and not of:
        return _pytest(words)
    with tempfile.TemporaryDirectory(prefix="groundswell-shared-") as shared:
        codes = [_pytest([*each, *of], shared) for each in _runs()]
    return next((each for each in codes if each not in (0, FOUND_NONE)), 0)


def _runs() -> list[tuple[str, ...]]:
    if shelf().missing():
        return [(*BESIDE, "-m", "not alone"), ALONE]
    return [(*BESIDE, "-m", "not alone and not plane"), (*BESIDE, "-m", "plane and not alone"), ALONE]


def _pytest(words: list[str], shared: str = "") -> int:
    """Modules are kept compiled: the tests start processes by the hundred."""
    environment = {**os.environ, **({SHARED: shared} if shared else {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run([sys.executable, "-m", "pytest", *words], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
