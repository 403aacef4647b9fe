"""Prometheus' rules: recordings and alerts, and the file of their groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

RUNBOOK = "docs/observability.md"


class Severity(StrEnum):
    """Who hears of an alert."""

    PAGE = "page"
    """Somebody, now: visitors or numbers suffer, and waiting makes it worse."""
    TICKET = "ticket"
    """Somebody, on a working day."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An expression that is evaluated once for all who ask."""

    name: str
    expression: str
    labels: Mapping[str, str]

    def rule(self) -> dict[str, object]:
        """As Prometheus reads it."""
        return {"record": self.name, "expr": self.expression, "labels": dict(self.labels)}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person has to do something about; what, is in the runbook."""

    name: str
    expression: str
    lasting: str
    """How long it must have been so, as Prometheus writes durations."""
    severity: Severity
    summary: str
    description: str

    @property
    def anchor(self) -> str:
        """The heading of the runbook."""
        words = re.findall("[A-Z][a-z]+", self.name.removeprefix("Groundswell"))
        return "-".join(words).lower()

    def rule(self) -> dict[str, object]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            "labels": {"severity": str(self.severity)},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": f"{RUNBOOK}#{self.anchor}",
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in this order."""

    name: str
    rules: Sequence[Recording | Alert]

    def written(self) -> dict[str, object]:
        """As Prometheus reads it."""
        return {"name": self.name, "rules": [each.rule() for each in self.rules]}
