"""The command: writes rules and dashboards into the chart, or with `--check` says which are stale and exits with 1."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from charts.observability import alerts, objectives
from charts.observability.dashboards import DASHBOARDS

CHART = Path(__file__).parents[1] / "groundswell"
FOLDERS = ("rules", "dashboards")
RULES = {"objectives": objectives.GROUPS, "product": alerts.GROUPS}


def files() -> Mapping[str, str]:
    """What is in the chart's `FOLDERS`, by path in the chart."""
    found = {}
    for name, groups in RULES.items():
        value = {"groups": [group.written() for group in groups]}
        found[f"rules/{name}.yaml"] = yaml.safe_dump(value, sort_keys=False, width=140)
    for each in DASHBOARDS:
        found[f"dashboards/{each.name}.json"] = json.dumps(each.written(), indent=1) + "\n"
    return found


def stale(chart: Path) -> list[str]:
    """Files of that chart that are not what the code says, missing and superfluous ones too."""
    wanted = files()
    there = {str(file.relative_to(chart)): file.read_text() for folder in FOLDERS for file in chart.glob(f"{folder}/*")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(chart: Path) -> None:
    """Makes that chart say what the code says."""
    wanted = files()
    for name in stale(chart):
        if name not in wanted:
            (chart / name).unlink()
            continue
        (chart / name).parent.mkdir(exist_ok=True)
        (chart / name).write_text(wanted[name])


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m charts.observability", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    if not parser.parse_args().check:
        write(CHART)
        return 0
    if names := stale(CHART):
        print(f"stale in {CHART}: {', '.join(names)}. Run: make observability", file=sys.stderr)
    return bool(names)


if __name__ == "__main__":
    sys.exit(main())
