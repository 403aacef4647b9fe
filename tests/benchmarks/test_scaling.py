"""What the benchmark `scale` reads off what it saw, and the picture that it draws of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import scale
from benchmarks.result import RESULTS
from benchmarks.scaling import picture, trace
from benchmarks.scaling.trace import Sample


def test_views_rise_to_fifty_times_in_ten_seconds_and_stay() -> None:
    assert math.isclose(trace.demand(10) / trace.demand(0), 50)
    assert trace.demand(60) == trace.demand(10) == 30


def test_demand_is_unmet_where_more_pods_are_busy_than_ready() -> None:
    few = [Sample(20 + second, 10, 10) for second in range(11)]
    enough = [Sample(20 + second, 30, 30) for second in range(11)]
    assert trace.unmet(few) == pytest.approx(200)
    assert trace.unmet(enough) == 0


def test_replica_minutes_are_of_what_was_ordered() -> None:
    assert trace.replica_minutes([Sample(0, 3, 3), Sample(30, 30, 3), Sample(90, 30, 30)]) == pytest.approx(31.5)


@pytest.mark.parametrize(("ordered", "turns"), [([3, 17, 30], 0), ([3, 30, 12, 12, 6], 1), ([3, 30, 3, 30], 2)])
def test_a_reversal_is_a_turn_from_up_to_down_or_back(ordered: list[int], turns: int) -> None:
    assert trace.reversals([Sample(at_s, each, 0) for at_s, each in enumerate(ordered)]) == turns


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert [trace.quantile(range(1, 51), part) for part in (0.5, 0.95, 0.99, 1)] == [25, 48, 50, 50]


def test_what_is_told_of_a_trace_can_be_read_back() -> None:
    seen = [Sample(0, 3, 3), Sample(0.1, 3, 3), Sample(6.5, 30, 3), Sample(8, 30, 30)]
    assert trace.told(seen) == "0.00:3/3 6.50:30/3 8.00:30/30"
    assert trace.heard(trace.told(seen)) == [seen[0], *seen[2:]]


def test_the_picture_of_the_page_is_drawn_of_the_result_that_is_kept() -> None:
    kept = json.loads((RESULTS / "scale.json").read_text())
    assert picture.PICTURE.read_text() == picture.drawn(kept)
    root = ElementTree.fromstring(picture.drawn(kept))
    assert [each.get("class") for each in root.iter("{http://www.w3.org/2000/svg}path")][-4:] == [
        "line nothing",
        "line autoscaler",
        "line ordered",
        "line operator",
    ]


@pytest.mark.parametrize("name", ["scale", "operator"])
def test_it_says_what_it_needs_where_the_programs_of_the_cluster_are_not_built(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "GROUNDSWELL_CLUSTER_TOOLS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{name} is skipped: the cluster's programs are not built: run `make cluster-tools`\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)


def test_the_slowest_of_all_raises_does_not_make_the_99th_percentile_alone() -> None:
    raises = range(scale.RUNS + scale.RUNS_OF_90 + 1)
    assert trace.quantile(raises, 0.99) < max(raises)
