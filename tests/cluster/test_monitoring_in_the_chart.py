"""What the chart gives to a Prometheus and a Grafana, by each way of being found."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.cluster.chart import FOLDER, RELEASE, ROOT, Object, Rendered, matches, render
from tests.cluster.control_plane.handle import ControlPlane, ProgramFailed
from tests.cluster.observed import DASHBOARDS, RULES

SCRAPERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
LABELS = {"release": "monitoring"}
KINDS = ROOT / "tests" / "cluster" / "kinds"


def told(**telemetry: Any) -> Rendered:
    return render({"telemetry": {"scrapers": SCRAPERS, "labels": LABELS, **telemetry}})


def pods(rendered: Rendered) -> list[Object]:
    """The pods of processes, operator and bridge, which serve metrics."""
    workloads = [each["spec"]["template"] for each in rendered.of("Deployment", "StatefulSet")]
    return [each for each in workloads if any(port["name"] == "ops" for port in ports(each))]


def ports(pod: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod["spec"]["containers"][0]["ports"]
    return found


def written() -> list[Object]:
    """The groups of all rules of the chart."""
    return [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]


def test_nothing_that_a_cluster_may_not_have_is_made_unless_it_is_asked_for() -> None:
    rendered = render({})
    assert not [each for each in rendered.objects if each["apiVersion"].startswith("monitoring.coreos.com")]
    assert not [each for each in rendered.objects if "grafana_dashboard" in each["metadata"]["labels"]]
    assert not any("prometheus.io/scrape" in each["metadata"].get("annotations", {}) for each in pods(rendered))


def test_annotations_name_the_port_at_which_each_pod_serves_its_metrics() -> None:
    found = pods(told(monitoring="annotations"))
    assert len(found) == 9
    for pod in found:
        (port,) = [str(each["containerPort"]) for each in ports(pod) if each["name"] == "ops"]
        notes = pod["metadata"]["annotations"]
        asked = {name: notes[f"prometheus.io/{name}"] for name in ("scrape", "port", "path")}
        assert asked == {"scrape": "true", "port": port, "path": "/metrics"}


def test_a_service_monitor_picks_the_metrics_port_of_every_pod_that_serves_metrics_and_of_no_other() -> None:
    rendered = told(monitoring="serviceMonitor")
    (monitor,) = rendered.of("ServiceMonitor")
    assert monitor["metadata"]["labels"].items() >= LABELS.items()
    (endpoint,) = monitor["spec"]["endpoints"]
    services = [
        each
        for each in rendered.of("Service")
        if matches(monitor["spec"]["selector"], each["metadata"]["labels"])
        and any(port["name"] == endpoint["port"] for port in each["spec"]["ports"])
    ]
    for pod in pods(rendered):
        chosen = [each for each in services if each["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1, "each pod is read once"
    assert len(services) == len(pods(rendered))
    assert not any("annotations" in each["metadata"] and "prometheus.io/scrape" in each["metadata"]["annotations"]
                   for each in pods(rendered))  # fmt: skip


def test_rules_come_as_they_are_written_whichever_way_they_are_asked_for() -> None:
    (rule,) = told(rules="prometheusRule").of("PrometheusRule")
    assert rule["spec"]["groups"] == written()
    assert rule["metadata"]["labels"].items() >= LABELS.items()
    plain = told(rules="configMap").one("ConfigMap", f"{RELEASE}-rules")
    assert plain["data"] == {file.name: file.read_text() for file in RULES}


def test_each_dashboard_is_a_config_map_that_grafana_s_sidecar_finds() -> None:
    maps = [each for each in told(dashboards=True).of("ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    found = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    assert found == {f"groundswell-{name}": dashboard for name, dashboard in DASHBOARDS.items()}


@pytest.fixture(scope="package")
def monitoring_kinds(control_plane: ControlPlane) -> None:
    """The kinds of Prometheus' operator, served."""
    control_plane.kubectl("apply", "--server-side", "-f", str(KINDS))
    names = [f"crd/{file.stem}.monitoring.coreos.com" for file in KINDS.iterdir()]
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


@pytest.mark.usefixtures("monitoring_kinds")
async def test_the_kinds_of_prometheus_operator_take_what_the_chart_makes_and_no_misspelt_field(
    control_plane: ControlPlane, namespace: str
) -> None:
    found = told(monitoring="serviceMonitor", rules="prometheusRule").of("ServiceMonitor", "PrometheusRule")

    def create(objects: list[Object]) -> str:
        own = [each | {"metadata": each["metadata"] | {"namespace": namespace}} for each in objects]
        return control_plane.kubectl(
            "create", "--dry-run=server", "-o", "name", "-f", "-", given=yaml.safe_dump_all(own)
        )

    assert len(create(found).split()) == len(found) == 2
    for each in found:
        with pytest.raises(ProgramFailed, match="unknown field"):
            create([each | {"spec": each["spec"] | {"endpoint": []}}])


@pytest.mark.parametrize("folder", ["rules", "dashboards"])
def test_an_object_holds_what_an_api_server_takes(folder: str) -> None:
    """1 MiB for an object, half of it being noticed early."""
    assert sum(file.stat().st_size for file in (FOLDER / folder).iterdir()) < 512 * 1024
