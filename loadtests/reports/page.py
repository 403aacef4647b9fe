"""A drill's outcome as one HTML file that needs no network: verdict, time line, findings, how to repeat it."""

from dataclasses import dataclass
from pathlib import Path

import jinja2

from loadtests.reports.journal import Journal

CHART_WIDTH, CHART_HEIGHT, MARGIN = 960, 240, 34


@dataclass(frozen=True, slots=True)
class Curve:
    """A polyline of the chart and the value at its top."""

    points: str
    top: float


def page(journal: Journal) -> str:
    """The page's text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    seconds = journal.seconds()
    end_s = max([each.at_s for each in seconds] + [kill.back_s for kill in journal.ran.struck] + [1.0])
    places = [(MARGIN + (CHART_WIDTH - MARGIN) * each.at_s / end_s) for each in seconds]
    return environment.get_template("page.html").render(
        journal=journal,
        told=journal.machine(),
        rates=_curve(places, [float(each.promised) for each in seconds]),
        latencies=_curve(places, [each.p99_ms for each in seconds]),
        kills=[
            (
                kill,
                MARGIN + (CHART_WIDTH - MARGIN) * kill.at_s / end_s,
                (CHART_WIDTH - MARGIN) * (kill.back_s - kill.at_s) / end_s,
            )
            for kill in journal.ran.struck
        ],
        end_s=end_s,
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        margin=MARGIN,
    )


def _curve(places: list[float], values: list[float]) -> Curve:
    top = max([*values, 1.0])
    heights = [CHART_HEIGHT - MARGIN - (CHART_HEIGHT - 2 * MARGIN) * value / top for value in values]
    return Curve(" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True)), top)
