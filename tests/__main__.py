"""`python -m tests`: all tests, in two runs of pytest; behind `--of` those of some folders. With other arguments it is pytest itself.

Most tests wait more than they work, and stand beside others. Those marked `alone` measure, or count what a machine refuses that has
something else to do: they come afterwards, one after the other.
"""

import subprocess
import sys

BESIDE = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not alone")
ALONE = ("-m", "alone")


def main(words: list[str]) -> int:
    """Returns the exit code of the first session that failed."""
    of = words[1:] if words[:1] == ["--of"] else []
    codes = [_pytest(*each, *of) for each in (BESIDE, ALONE)] if of or not words else [_pytest(*words)]
    return next(filter(None, codes), 0)


def _pytest(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
