"""`python -m charts.releasing`: keeps the chart of this version as an archive, which every later one is upgraded from in tests.

An archive never changes: who has installed it has exactly that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import helm_python
import yaml

CHART = Path(__file__).parent / "groundswell"
RELEASES = Path(__file__).parent / "releases"


def version() -> str:
    """The version that the chart says it has."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])


def archive(of: str) -> Path:
    """Where the chart of a version is kept."""
    return RELEASES / f"{CHART.name}-{of}.tgz"


def released() -> list[str]:
    """The versions that are kept, the oldest first."""
    found = [each.stem.removeprefix(f"{CHART.name}-") for each in RELEASES.glob("*.tgz")]
    return sorted(found, key=numbers)


def numbers(of: str) -> tuple[int, ...]:
    """What versions are ordered by."""
    return tuple(int(each) for each in of.split("."))


def main() -> int:
    """Returns the exit code."""
    kept = archive(version())
    if kept.exists():
        print(f"{kept.name} is released already: raise the version in {CHART.name}/Chart.yaml first", file=sys.stderr)
        return 1
    print(f"kept {helm_python.package(CHART, destination=RELEASES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
