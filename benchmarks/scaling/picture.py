"""Draws what the last run of `scale` saw of its trace: `python -m benchmarks.scaling.picture`.

The drawing is all in one file without fonts or scripts, and takes the colours that the reader's system prefers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.result import RESULTS
from benchmarks.scaling.trace import PLAYED_S, RECORD_S, Sample, Seen, demand, heard

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "spike.svg"
WIDTH, HEIGHT = 800, 400
LEFT, RIGHT, TOP, BOTTOM = 48, 24, 44, 48
PODS_MAX = 35
ROWS, COLUMNS = (0, 10, 20, 30), (0, 15, 30, 45, 60, 75)
DEMAND_STEP_S = 0.5
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #54686f }
.title { font-size: 15px; font-weight: 600; fill: #10242a }
.grid { stroke: #e1e8ea; stroke-width: 1 }
.record { stroke: #54686f; stroke-dasharray: 2 4 }
.demand { fill: #94a9b1; fill-opacity: .3; stroke: none }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.operator { stroke: #0b6b74 } text.operator { stroke: none; fill: #0b6b74; font-weight: 600 }
.ordered { stroke: #0b6b74; stroke-width: 1.5; stroke-dasharray: 5 4 } text.ordered { stroke: none; fill: #0b6b74 }
.autoscaler { stroke: #8a5300 } text.autoscaler { stroke: none; fill: #8a5300; font-weight: 600 }
.nothing { stroke: #54686f } text.nothing { stroke: none; fill: #54686f }
@media (prefers-color-scheme: dark) {
  text { fill: #94a9b1 } .title { fill: #e8f1f3 } .grid { stroke: #22323a } .record { stroke: #94a9b1 }
  .demand { fill: #54686f; fill-opacity: .35 }
  .operator, .ordered { stroke: #4cc9c0 } text.operator, text.ordered { fill: #4cc9c0 }
  .autoscaler { stroke: #f0b35a } text.autoscaler { fill: #f0b35a }
  .nothing { stroke: #94a9b1 } text.nothing { fill: #94a9b1 }
}
"""


def drawn(told: Mapping[str, Any]) -> str:
    """The picture of a result's trace."""
    seen = {name: heard(each["seen"]) for name, each in told["details"]["trace"].items()}
    described = (
        "Ready pods over 75 seconds: the operator has ten times as many within seconds, an autoscaler within a minute."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            "<title>A spike of fifty times the views, met by the operator, an autoscaler alone, and nothing</title>",
            f"<desc>{described}</desc>",
            f"<style>{STYLE}</style>",
            *_frame(),
            f'<path class="demand" d="{_area()}"/>',
            _line("nothing", seen["nothing"], [each.ready for each in seen["nothing"]]),
            _line("autoscaler", seen["autoscaler"], [each.ready for each in seen["autoscaler"]]),
            _line("ordered", seen["operator"], [each.ordered for each in seen["operator"]]),
            _line("operator", seen["operator"], [each.ready for each in seen["operator"]]),
            *_labels(seen),
            "</svg>",
            "",
        ]
    )


def _x(at_s: float) -> float:
    return round(LEFT + at_s / PLAYED_S * (WIDTH - LEFT - RIGHT), 1)


def _y(pods: float) -> float:
    return round(HEIGHT - BOTTOM - pods / PODS_MAX * (HEIGHT - TOP - BOTTOM), 1)


def _frame() -> Iterator[str]:
    yield f'<text class="title" x="{LEFT}" y="22">Pods of web while views rise to fifty times</text>'
    for pods in ROWS:
        yield f'<path class="grid" d="M{LEFT} {_y(pods)}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{_y(pods) + 4}" text-anchor="end">{pods}</text>'
    for at_s in COLUMNS:
        yield f'<text x="{_x(at_s)}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{at_s} s</text>'
    yield f'<path class="record" d="M{_x(RECORD_S)} {_y(0)}V{TOP - 8}"/>'
    yield f'<text x="{_x(RECORD_S) + 6}" y="{TOP}">the record says: a spike</text>'


def _area() -> str:
    steps = [number * DEMAND_STEP_S for number in range(int(PLAYED_S / DEMAND_STEP_S) + 1)]
    line = " ".join(f"{_x(at_s)} {_y(demand(at_s))}" for at_s in steps)
    return f"M{_x(0)} {_y(0)}L{line}L{_x(PLAYED_S)} {_y(0)}Z"


def _line(kind: str, seen: Seen, pods: list[int]) -> str:
    """Steps: what was seen stays until something else is."""
    first, *others = zip(seen, pods, strict=True)
    steps = "".join(f"H{_x(each.at_s)}V{_y(value)}" for each, value in others)
    return f'<path class="line {kind}" d="M{_x(0)} {_y(first[1])}{steps}H{_x(PLAYED_S)}"/>'


def _labels(seen: Mapping[str, Seen]) -> Iterator[str]:
    """Each beside its line."""
    half = _first(seen["autoscaler"], 12)
    last = _first(seen["operator"], 30)
    yield f'<text class="operator" x="{_x(last.at_s) + 10}" y="{_y(30) - 8}">operator: ready (dashed: ordered)</text>'
    yield f'<text class="autoscaler" x="{_x(half.at_s) + 10}" y="{_y(half.ordered) - 8}">autoscaler alone</text>'
    yield f'<text class="nothing" x="{_x(PLAYED_S)}" y="{_y(3) - 8}" text-anchor="end">nothing</text>'
    yield f'<text x="{_x(PLAYED_S)}" y="{_y(17)}" text-anchor="end">grey: pods that the views keep busy</text>'


def _first(seen: Seen, ready: int) -> Sample:
    """The first moment with so many ready; the last one where there never were."""
    return next((each for each in seen if each.ready >= ready), seen[-1])


def main() -> int:
    """The command; its exit code."""
    PICTURE.write_text(drawn(json.loads((RESULTS / "scale.json").read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
