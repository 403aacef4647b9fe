"""What an autoscaler wants, from the metrics that its status says it saw."""

from __future__ import annotations

import pytest

from groundswell_operator.applying import scalers
from groundswell_operator.policies import Object

REPLICAS = 4


def of_queue(topic: str, value: str, field: str) -> Object:
    """One of several external metrics of the same name; `field` is `target` of a spec, `current` of a status."""
    found = {"metric": {"name": "lag", "selector": {"matchLabels": {"topic": topic}}}}
    kind = {"type": "AverageValue"} if field == "target" else {}
    return {"type": "External", "external": {**found, field: {**kind, "averageValue": value}}}


def of_container(container: str, value: int, field: str) -> Object:
    kind = {"type": "Utilization"} if field == "target" else {}
    part = {"name": "cpu", "container": container, field: {**kind, "averageUtilization": value}}
    return {"type": "ContainerResource", "containerResource": part}


UNSEEN: Object = {"type": ""}
"""What a status has in the place of a metric that was not answered."""


@pytest.mark.parametrize(
    ("metrics", "seen", "wanted"),
    [
        ([of_queue("a", "10", "target"), of_queue("b", "10", "target")], [("a", "30"), ("b", "5")], 12),
        ([of_queue("a", "10", "target"), of_queue("b", "100", "target")], [("a", "30"), ("b", "50")], 12),
        ([of_queue("a", "10", "target"), of_queue("b", "10", "target")], [("a", "30")], None),
    ],
)
def test_metrics_of_one_name_are_told_apart_by_their_places(
    metrics: list[Object], seen: list[tuple[str, str]], wanted: int | None
) -> None:
    assert wants(metrics, [of_queue(*each, "current") for each in seen]) == wanted


def test_the_busier_of_two_containers_says_what_is_wanted() -> None:
    metrics = [of_container("app", 50, "target"), of_container("proxy", 50, "target")]
    assert wants(metrics, [of_container("app", 100, "current"), of_container("proxy", 10, "current")]) == 2 * REPLICAS
    assert wants(metrics, [of_container("app", 100, "current"), UNSEEN]) is None
    assert wants(metrics, [of_container("proxy", 100, "current"), of_container("app", 10, "current")]) is None


def wants(metrics: list[Object], seen: list[Object]) -> int | None:
    active = [{"type": "ScalingActive", "status": "True"}]
    status = {"conditions": active, "currentReplicas": REPLICAS, "currentMetrics": seen}
    return scalers.wants({"metadata": {"name": "web"}, "spec": {"metrics": metrics}, "status": status})
