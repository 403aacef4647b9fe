"""What the chart's rules and dashboards ask of Prometheus, as the chart has it on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.chart import FOLDER

RULES = sorted((FOLDER / "rules").iterdir())
DASHBOARDS: Mapping[str, dict[str, Any]] = {
    file.name: json.loads(file.read_text()) for file in sorted((FOLDER / "dashboards").iterdir())
}
GRAFANA = {"$__rate_interval": "1m", "$namespace": ".*"}
"""What Grafana puts in for its variables, while nothing is chosen."""
_SELECTOR = re.compile(r"\b(groundswell_[\w:]+)(?:\{(.*?)\})?(?![\w:])")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


@dataclass(frozen=True)
class Query:
    """One line of a panel."""

    panel: str
    expression: str
    legend: str

    @property
    def shown(self) -> set[str]:
        """The labels that its legend shows."""
        return set(re.findall(r"\{\{(\w+)\}\}", self.legend))


def rules(kind: str) -> list[dict[str, Any]]:
    """All `alert` or `record` rules."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def queries() -> Iterator[Query]:
    """What the panels ask, with Grafana's variables filled in."""
    for file, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in GRAFANA.items():
                    expression = expression.replace(variable, value)
                yield Query(f"{file}: {panel['title']}", expression, target["legendFormat"])


def selected(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression selects, with the labels that it selects by."""
    for metric, matchers in _SELECTOR.findall(expression):
        yield metric, set(_LABEL.findall(matchers)) - {"namespace"}
