"""Grafana's dashboards (schema of Grafana 10 and newer): rows of panels, each a few queries.

A dashboard names no data source and no installation: both are chosen at its top. Whoever writes an expression writes it without the chosen
namespace, which every selector gets here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = 24
"""How wide Grafana's grid is."""
HEIGHT = 8
SCHEMA_VERSION = 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SELECTOR = re.compile(r"\b(groundswell_[\w:]+)(?:\{(.*?)\})?(?![\w:{])")


@dataclass(frozen=True, slots=True)
class Query:
    """One set of lines."""

    expression: str
    legend: str = ""
    """May hold labels: `{{topic}}`."""

    @property
    def scoped(self) -> str:
        """The expression in the chosen namespace."""
        return _SELECTOR.sub(_in_namespace, self.expression)


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart over time, or one number."""

    title: str
    unit: str
    """As Grafana names it: reqps, s, bytes, percentunit, short."""
    queries: Sequence[Query]
    description: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels that share the width equally."""

    name: str
    title: str
    rows: Sequence[Sequence[Panel]]

    def written(self) -> dict[str, object]:
        """As Grafana reads it."""
        return {
            "title": f"Groundswell / {self.title}",
            "tags": ["groundswell"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "",
            "templating": {"list": [_DATASOURCE, _NAMESPACE]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for number, row in enumerate(self.rows):
            width = COLUMNS // len(row)
            for place, panel in enumerate(row):
                where = {"x": place * width, "y": number * HEIGHT, "w": width, "h": HEIGHT}
                found.append({"id": len(found) + 1, "gridPos": where, **_panel(panel)})
        return found


def _panel(panel: Panel) -> dict[str, object]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query.scoped, "legendFormat": query.legend}
        for place, query in enumerate(panel.queries)
    ]
    return {
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {} if panel.number else {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def _in_namespace(selector: re.Match[str]) -> str:
    matchers = ", ".join(filter(None, [selector[2], 'namespace=~"$namespace"']))
    return f"{selector[1]}{{{matchers}}}"


_DATASOURCE = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
_NAMESPACE = {
    "name": "namespace",
    "label": "Namespace",
    "type": "query",
    "datasource": SOURCE,
    "definition": "label_values(groundswell_rpc_handled_total, namespace)",
    "query": {"query": "label_values(groundswell_rpc_handled_total, namespace)", "refId": "namespace"},
    "refresh": 2,
    "includeAll": True,
    "allValue": ".*",  # also where nothing has a namespace, as on a laptop
    "current": {"text": "All", "value": "$__all"},
}
