"""What every object of the chart keeps to, in every profile of values."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest

from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import modules
from groundswell.kernel.bus.frames.producer import CLOSE_S_MAX
from groundswell.kernel.rpc import server
from tests.cluster.chart import (
    FOLDER,
    MODULES,
    NAMESPACE,
    PLACEMENTS,
    PROFILES,
    Object,
    Rendered,
    amount,
    matches,
    parsed,
    render,
)

VERSIONS = ("1.30", "1.37")
"""The oldest that Chart.yaml allows, and the newest that is known here."""


@cache
def validate(manifest: str) -> None:
    """Raises when the object is not of its schema; cached, since most are the same in all profiles."""
    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(manifest), version, strict=True)


@pytest.fixture(params=[*PROFILES.values()], ids=[*PROFILES])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    values: Mapping[str, Any] = request.param
    return render(values)


@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES.keys())
def test_every_object_is_of_its_schema_without_a_field_that_nobody_knows(
    values: Mapping[str, Any], upgrade: bool
) -> None:
    for each in render(values, upgrade=upgrade).objects:
        validate(json.dumps(each))


@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES.keys())
def test_helm_finds_nothing_to_say_against_the_chart(values: dict[str, Any]) -> None:
    report = helm_python.lint(FOLDER, values, strict=True, namespace=NAMESPACE, kube_version="v1.36.0")
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] >= 2] == []


def test_a_packaged_chart_carries_the_topology_and_renders_the_same(tmp_path: Path) -> None:
    """The topology is a link, which must not be left behind in a package."""
    archive = helm_python.package(FOLDER, destination=tmp_path)
    with helm_python.Chart.load(archive) as chart:
        packaged = parsed(chart.render({}, name="groundswell", namespace=NAMESPACE, is_install=True))
    assert _names(packaged) == _names(render({}))
    assert (FOLDER / "topology.yaml").is_symlink()


def test_every_name_is_taken_once_and_every_object_is_in_the_releases_namespace(rendered: Rendered) -> None:
    names = _names(rendered)
    assert len(names) == len(set(names))
    kinds = rendered.of("CustomResourceDefinition")
    assert {each["metadata"]["namespace"] for each in rendered.objects if each not in kinds} == {NAMESPACE}
    assert not [each for each in kinds if "namespace" in each["metadata"]]


def test_every_pod_is_restricted_and_writes_to_volumes_only(rendered: Rendered) -> None:
    for component, _, pod in rendered.pods():
        assert_restricted(component, pod)
        assert pod["automountServiceAccountToken"] is (component in ASKING), component


def assert_restricted(component: str, pod: Object) -> None:
    """By Pod Security's standard, with volumes as all that it writes to."""
    assert pod["enableServiceLinks"] is False, component
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), component
    assert security["runAsUser"] > 0, component
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod), component
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, component
    for volume in pod.get("volumes", []):
        assert set(volume) & {"emptyDir", "configMap"}, component
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], component


def test_every_container_has_requests_and_limits_and_the_requests_fit(rendered: Rendered) -> None:
    for component, _, pod in rendered.pods():
        assert_fits(component, pod)


def assert_fits(component: str, pod: Object) -> None:
    for container in pod["containers"]:
        requests, limits = (container["resources"][name] for name in ("requests", "limits"))
        for name in ("cpu", "memory"):
            assert 0 < amount(requests[name]) <= amount(limits[name]), (component, name)


def test_every_pod_has_a_service_account_of_its_own_and_only_those_that_ask_the_api_server_have_rights(
    rendered: Rendered,
) -> None:
    accounts = {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
    used = [pod["serviceAccountName"] for _, _, pod in rendered.pods()]
    assert accounts == set(used)
    assert len(used) == len(set(used))
    assert all(each["automountServiceAccountToken"] is False for each in rendered.of("ServiceAccount"))
    assert not rendered.of("ClusterRole", "ClusterRoleBinding")
    bound = {each["metadata"]["name"]: each for each in rendered.of("RoleBinding")}
    assert (
        {*bound}
        == {each["metadata"]["name"] for each in rendered.of("Role")}
        == {f"groundswell-{each}" for each in ASKING}
    )
    for name, each in bound.items():
        assert each["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
        assert each["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}


def test_rights_are_these_and_no_others() -> None:
    """Each is used: the tests of the operator on a real API server run with them, and see nothing refused."""
    for part, wanted in RIGHTS.items():
        rules = render({}).rights(part)
        found = {
            (f"{group}/{resource}".strip("/"), verb, name)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames", [""])
        }
        assert found == {
            (resource, verb, name) for (resource, name), verbs in wanted.items() for verb in verbs.split()
        }, part


def test_config_maps_and_secrets_are_open_to_the_operator_by_name_only() -> None:
    named = render({"operator": {"configMaps": ["flags"], "webhooks": {"secrets": ["hook"]}}}).rights("operator")
    found = {each["resources"][0]: each for each in named if {*each["resources"]} & {"configmaps", "secrets"}}
    assert {name: (each["resourceNames"], each["verbs"]) for name, each in found.items()} == {
        "configmaps": (["flags"], ["get", "patch"]),
        "secrets": (["hook"], ["get"]),
    }


def test_a_process_says_how_many_of_it_have_work() -> None:
    said = {
        name: each["metadata"].get("annotations", {}).get("groundswell.dev/partitions")
        for name, each in render({"topology": "each"}).processes().items()
    }
    assert {name: number for name, number in said.items() if number} == {"live": "1", "writer": "4"}


OWN_NAME, BRIDGE_NAME = "groundswell-operator", "groundswell-bridge"
RIGHTS: Mapping[str, Mapping[tuple[str, str], str]] = {
    "operator": {
        ("groundswell.dev/viralspikepolicies", ""): "list watch",
        ("groundswell.dev/viralspikepolicies/status", ""): "patch",
        ("groundswell.dev/viralspikes", ""): "list watch patch delete",
        ("groundswell.dev/viralspikes/status", ""): "patch",
        ("apps/deployments", ""): "get list watch",
        ("apps/statefulsets", ""): "get list watch",
        ("apps/deployments/scale", ""): "patch",
        ("apps/statefulsets/scale", ""): "patch",
        ("autoscaling/horizontalpodautoscalers", ""): "list watch patch",
        ("keda.sh/scaledobjects", ""): "list patch",
        ("events", ""): "list create",
        ("pods", ""): "list",
        ("coordination.k8s.io/leases", ""): "create",
        ("coordination.k8s.io/leases", OWN_NAME): "get watch update delete",
        ("coordination.k8s.io/leases", BRIDGE_NAME): "get",
    },
    "bridge": {
        ("coordination.k8s.io/leases", ""): "create",
        ("coordination.k8s.io/leases", BRIDGE_NAME): "patch delete",
        ("apps/deployments", BRIDGE_NAME): "get",
        ("groundswell.dev/viralspikepolicies", ""): "list",
        ("groundswell.dev/viralspikepolicies/status", ""): "patch",
        ("groundswell.dev/viralspikes", ""): "get create",
        ("groundswell.dev/viralspikes/status", ""): "patch",
    },
    "release": {
        ("groundswell.dev/viralspikes", ""): "list patch delete",
        ("coordination.k8s.io/leases", OWN_NAME): "get",
        ("apps/deployments", BRIDGE_NAME): "get",
        ("apps/deployments/scale", BRIDGE_NAME): "patch",
        ("pods", ""): "list",
    },
}
"""Verbs by part, then by resource and, where a rule is tied to one, the name of an object."""
ASKING = set(RIGHTS)


@pytest.mark.parametrize("topology", PLACEMENTS)
def test_every_process_of_the_topology_has_its_objects_and_nothing_else_runs(topology: str) -> None:
    rendered = render({"topology": topology})
    found = rendered.processes()
    assert {name: _container(each)["args"][1:] for name, each in found.items()} == dict(PLACEMENTS[topology])
    for process, workload in found.items():
        name = f"groundswell-{process}"
        assert workload["metadata"]["name"] == name
        for kind in ("Service", "ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"):
            rendered.one(kind, name)
        target = rendered.one("HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]
        assert target == {"apiVersion": "apps/v1", "kind": workload["kind"], "name": name}


def test_the_chart_offers_exactly_the_topologies_there_are() -> None:
    with helm_python.Chart.load(FOLDER) as chart:
        schema, values = chart.schema, chart.values
    assert schema is not None
    assert schema["properties"]["topology"]["enum"] == list(reversed([*PLACEMENTS]))
    assert set(values["processes"]) == {process for placement in PLACEMENTS.values() for process in placement}


def test_selectors_pick_the_pods_that_they_mean_and_no_others(rendered: Rendered) -> None:
    pods = [(component, labels) for component, labels, _ in rendered.pods()]
    for each in rendered.of("Service", "Deployment", "StatefulSet", "PodDisruptionBudget"):
        name, selector = each["metadata"]["name"], each["spec"]["selector"]
        picked = {
            component
            for component, labels in pods
            if matches(selector if "matchLabels" in selector else {"matchLabels": selector}, labels)
        }
        door = next(process for process, modules in _placement(rendered).items() if "gateway" in modules)
        assert picked == {door if name == "groundswell-door" else name.removeprefix("groundswell-")}, name


def test_ports_are_what_probes_services_and_settings_say(rendered: Rendered) -> None:
    for process, workload in rendered.processes().items():
        container = _container(workload)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        environment = rendered.environment(workload)
        assert environment["GROUNDSWELL_RPC_ADDRESS"] == f"0.0.0.0:{ports['rpc']}"
        assert environment["GROUNDSWELL_OPS_ADDRESS"] == f"0.0.0.0:{ports['ops']}"
        if "http" in ports:
            assert environment["GATEWAY_ADDRESS"] == f"0.0.0.0:{ports['http']}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == "ops", process
        paths = {probe: container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
        assert paths == {"readinessProbe": "/readyz", "livenessProbe": "/healthz"}
        service = {each["name"]: each for each in rendered.one("Service", f"groundswell-{process}")["spec"]["ports"]}
        assert {name: (each["port"], each["targetPort"]) for name, each in service.items()} == {
            name: (ports[name], name) for name in ("rpc", "ops")
        }
    for each in rendered.of("StatefulSet"):
        container = _container(each)
        names = {port["name"] for port in container["ports"]}
        assert {
            port["targetPort"] for port in rendered.one("Service", each["metadata"]["name"])["spec"]["ports"]
        } <= names
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_a_pod_may_take_longer_to_end_than_anything_in_it(rendered: Rendered) -> None:
    """The pause, the longest of what a process waits for while it drains, the server's grace, and the journal's last delivery."""
    door = GatewaySettings()
    drain_s = max(modules.DRAIN_S, door.drain_accept_s + door.drain_s)
    for process, workload in rendered.processes().items():
        pod, container = workload["spec"]["template"]["spec"], _container(workload)
        pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace_s = pod["terminationGracePeriodSeconds"]
        assert grace_s > pause_s + drain_s + server.GRACE_S + CLOSE_S_MAX, process
        assert grace_s > pause_s + server.DEADLINE_DEFAULT_S, process


def test_what_keeps_a_journal_keeps_its_volume_and_what_keeps_a_name_keeps_that(rendered: Rendered) -> None:
    for process, workload in rendered.processes().items():
        kept = {MODULES[module].get("keeps") for module in _placement(rendered)[process]} - {None}
        assert (workload["kind"] == "StatefulSet") == bool(kept), process
        assert ("volumeClaimTemplates" in workload["spec"]) == ("journal" in kept), process
        data = [each for each in _container(workload)["volumeMounts"] if each["name"] == "data"]
        assert [each["mountPath"] for each in data] == [rendered.environment(workload)["GROUNDSWELL_DATA"]], process
        if "journal" in kept:
            retention = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
            assert retention == {"whenDeleted": "Retain", "whenScaled": "Retain"}, process


def test_autoscaling_works_by_cpu_and_memory_alone_and_takes_back_at_most_half_of_the_pods_each_minute(
    rendered: Rendered,
) -> None:
    for each in rendered.of("HorizontalPodAutoscaler"):
        spec = each["spec"]
        resources = {metric["resource"]["name"]: metric["resource"]["target"]["type"] for metric in spec["metrics"]}
        assert resources == {"cpu": "Utilization", "memory": "Utilization"}
        down = spec["behavior"]["scaleDown"]
        assert down["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}]
        assert 1 <= spec["minReplicas"] <= spec["maxReplicas"]


def test_a_number_of_pods_is_said_by_the_autoscaler_or_by_the_workload_and_never_by_both(rendered: Rendered) -> None:
    """A number in a workload is written over what was scaled meanwhile: by an upgrade that took its time, and by every rollback."""
    governed = {each["spec"]["scaleTargetRef"]["name"] for each in rendered.of("HorizontalPodAutoscaler")}
    fixed = {
        each["metadata"]["name"] for each in rendered.of("Deployment", "StatefulSet") if "replicas" in each["spec"]
    }
    assert not governed & fixed
    assert governed | fixed == {each["metadata"]["name"] for each in rendered.of("Deployment", "StatefulSet")}
    assert governed == {f"groundswell-{process}" for process in rendered.processes()}


@pytest.mark.parametrize("values", [{}, PROFILES["everything given"]], ids=["as it stands", "everything given"])
def test_a_rollout_never_takes_the_last_process_of_a_kind_away(values: Mapping[str, Any]) -> None:
    """Goal: an upgrade fails no request. The live counters may pause: one process alone has them whole."""
    rendered = render(values)
    for process, workload in rendered.processes().items():
        spec, least = (
            workload["spec"],
            rendered.one("HorizontalPodAutoscaler", f"groundswell-{process}")["spec"]["minReplicas"],
        )
        if workload["kind"] == "Deployment":
            assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, process
        elif process != "live":
            assert least >= 2, process
        assert rendered.one("PodDisruptionBudget", f"groundswell-{process}")["spec"]["maxUnavailable"] == 1
        keys = {each["topologyKey"] for each in spec["template"]["spec"]["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def _placement(rendered: Rendered) -> dict[str, list[str]]:
    return {name: _container(each)["args"][1:] for name, each in rendered.processes().items()}


def _container(workload: Object) -> Object:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found: Object = container
    return found


def _names(rendered: Rendered) -> list[tuple[str, str]]:
    return [(each["kind"], each["metadata"]["name"]) for each in rendered.objects]
