"""The operator in the chart: its pods, its kinds, and the hook that gives back what is raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from groundswell_operator.applying.reading import HEARTBEAT
from groundswell_operator.applying.requests import REQUEST_S_MAX
from groundswell_operator.leading import LEASE
from groundswell_operator.running import RELEASE_S_MAX
from groundswell_operator.settings import Settings
from tests.cluster.chart import FOLDER, PROFILES, ROOT, Object, Rendered, amount, render

CRDS = ROOT / "operators" / "groundswell_operator" / "crds"
PARTS = {"operator": "run", "bridge": "bridge"}


@pytest.fixture(params=[*PROFILES.values()], ids=[*PROFILES])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    values: Mapping[str, Any] = request.param
    return render(values)


def test_the_kinds_are_the_operators_own_and_are_kept() -> None:
    assert (FOLDER / "kinds").readlink().parts[-2:] == ("groundswell_operator", "crds")
    found = {each["metadata"]["name"]: each for each in render({}).of("CustomResourceDefinition")}
    own = [yaml.safe_load(file.read_text()) for file in CRDS.glob("*.yaml")]
    assert {*found} == {each["metadata"]["name"] for each in own}
    for each in own:
        made = found[each["metadata"]["name"]]
        assert made["spec"] == each["spec"]
        assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_without_the_operator_there_is_nothing_of_it_but_the_hook_of_a_rollback() -> None:
    none, whole = render({"operator": {"enabled": False}}), render({})
    left = [each for each in none.objects if _note(each, "helm.sh/hook") != "pre-rollback"]
    kinds = {"CustomResourceDefinition", "Role", "RoleBinding"}
    parts = {"groundswell-operator", "groundswell-bridge", "groundswell-release"}
    assert not [each for each in left if each["kind"] in kinds or each["metadata"]["name"] in parts]
    assert "groundswell_operator" not in str(left)
    assert "bridge" not in str([each for each in left if each["kind"] == "NetworkPolicy"])
    assert len(whole.objects) > len(left)


def test_kinds_that_another_release_brings_are_left_out() -> None:
    rendered = render({"operator": {"crds": {"install": False}}})
    assert not rendered.of("CustomResourceDefinition")
    rendered.one("Deployment", "groundswell-operator")


def test_there_are_two_operators_and_one_bridge(rendered: Rendered) -> None:
    assert {part: _deployment(rendered, part)["spec"]["replicas"] for part in PARTS} == {"operator": 2, "bridge": 1}
    more = render({"operator": {"replicas": 3}})
    assert {part: _deployment(more, part)["spec"]["replicas"] for part in PARTS} == {"operator": 3, "bridge": 1}


def test_they_are_told_what_they_need_and_no_secret(rendered: Rendered) -> None:
    kafka = rendered.one("ConfigMap", "groundswell-config")["data"]["KAFKA_BOOTSTRAP_SERVERS"]
    for part, command in PARTS.items():
        workload = _deployment(rendered, part)
        container = _container(workload)
        assert container["command"] == ["python", "-m", "groundswell_operator", command]
        environment = rendered.environment(workload)
        settings = Settings.of(environment)
        assert (settings.namespace, settings.identity) == ("metadata.namespace", "metadata.name"), "of the pod"
        assert settings.deployment == workload["metadata"]["name"], "the Lease goes with it"
        assert "KUBECONFIG" not in environment, "the token of the pod"
        assert (settings.bind, settings.port) == ("", container["ports"][0]["containerPort"])
        assert settings.kafka == (kafka if part == "bridge" else "")
        assert not {"envFrom"} & set(container)


def test_they_say_as_much_as_everything_else_does_or_as_they_are_told_to() -> None:
    levels = [
        ({"telemetry": {"logLevel": "DEBUG"}}, "DEBUG"),
        ({"telemetry": {"logLevel": "DEBUG"}, "operator": {"logLevel": "ERROR"}}, "ERROR"),
    ]
    for values, level in levels:
        rendered = render(values)
        assert Settings.of(rendered.environment(_deployment(rendered, "operator"))).log_level == level


def test_no_limit_holds_up_the_pass_of_an_operator() -> None:
    """A kernel stops whoever has used up a limit until the next tenth of a second begins, and in a tenth the first write is to be sent:
    half a processor is used up after 50 ms. One thread cannot use up two, with what works beside it."""
    limits = yaml.safe_load((FOLDER / "values.yaml").read_text())["operator"]["limits"]
    assert amount(limits["cpu"]) >= 2


def test_probes_ask_where_they_answer() -> None:
    for part in PARTS:
        container = _container(_deployment(render({}), part))
        paths = {
            name: (container[name]["httpGet"]["path"], container[name]["httpGet"]["port"])
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert paths == {
            "startupProbe": ("/healthz", "ops"),
            "readinessProbe": ("/readyz", "ops"),
            "livenessProbe": ("/healthz", "ops"),
        }
        (port,) = render({}).one("Service", f"groundswell-{part}")["spec"]["ports"]
        assert (port["port"], port["targetPort"]) == (container["ports"][0]["containerPort"], "ops")


def test_a_pod_may_take_longer_to_end_than_anything_in_it() -> None:
    for part in PARTS:
        pod = _deployment(render({}), part)["spec"]["template"]["spec"]
        pause_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause_s + REQUEST_S_MAX + RELEASE_S_MAX


def test_a_rollout_leaves_an_operator_that_acts_and_equal_pods_stand_apart() -> None:
    for part in PARTS:
        workload = _deployment(render({}), part)
        assert workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert render({}).one("PodDisruptionBudget", f"groundswell-{part}")["spec"]["maxUnavailable"] == 1
        spread = workload["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def test_no_rule_holds_for_everything_and_no_lease_but_the_operators_and_the_bridges_may_be_touched() -> None:
    for role in render({}).of("Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
            if rule["resources"] == ["leases"]:
                assert rule["verbs"] == ["create"] or rule["resourceNames"] in ([LEASE], [HEARTBEAT])


def test_what_is_raised_is_given_back_before_an_uninstall_with_rights_that_are_gone_after_it(
    rendered: Rendered,
) -> None:
    """Accounts and rights come before the job, in the order of their kinds, and every one of them goes when all have succeeded."""
    hooks = [each for each in rendered.objects if _note(each, "helm.sh/hook") == "pre-delete"]
    weights = {each["kind"]: int(_note(each, "helm.sh/hook-weight")) for each in hooks}
    assert {*weights} == {"ServiceAccount", "Role", "RoleBinding", "Job"}
    assert weights["Job"] > max(weight for kind, weight in weights.items() if kind != "Job")
    assert {_note(each, "helm.sh/hook-delete-policy") for each in hooks} == {"before-hook-creation,hook-succeeded"}
    assert {each["metadata"]["name"] for each in hooks} == {"groundswell-release"}
    (job,) = [each for each in hooks if each["kind"] == "Job"]
    assert _container(job)["command"] == ["python", "-m", "groundswell_operator", "release"]
    settings = Settings.of(rendered.environment(job))
    assert (
        rendered.one("Deployment", settings.bridge)["spec"]["template"]["spec"]["serviceAccountName"] == settings.bridge
    )
    policy = rendered.one("NetworkPolicy", "groundswell-release")
    assert "annotations" not in policy["metadata"], "it stands while the hook runs, and goes with the release"


def _note(value: Object, name: str) -> str:
    return str(value["metadata"].get("annotations", {}).get(name, ""))


def _deployment(rendered: Rendered, part: str) -> Object:
    return rendered.one("Deployment", f"groundswell-{part}")


def _container(workload: Object) -> Object:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found: Object = container
    return found
