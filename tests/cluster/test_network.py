"""Who may talk to whom: the network policies allow the call graph, and the call graph is what the code does."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from groundswell import main
from groundswell.gateway.module import SERVICES
from tests.cluster.chart import MODULES, PLACEMENTS, PROFILES, ROOT, Object, Rendered, matches, render, visitors

PACKAGE = ROOT / "services" / "groundswell"
PORTS = {"kafka": 9092, "valkey": 6379, "postgres": 5432, "clickhouse": 8123}
POOL = 6432
"""Of a proxy before PostgreSQL."""
RPC, OPS, HTTP = 4000, 9400, 8080
PREPARED = ("kafka", "postgres")
OUTSIDE = ("test", "visitors")
"""Pods that come to the public door as everybody does."""


def test_the_call_graph_is_what_the_code_calls() -> None:
    """A module calls whom its wiring opens a channel to; the gateway whom it lists; and who serves checks credentials with identity."""
    opened = {module: {name for name, tree in _opened(module, "channel") if name} for module in main.MODULES}
    opened["gateway"] |= set(SERVICES)
    for module, facts in MODULES.items():
        assert sorted(facts["calls"]) == facts["calls"], module
        assert set(facts["calls"]) == opened[module] | {"identity"}, module
    assert set(MODULES) == set(main.MODULES)


def test_the_engines_of_a_module_are_those_that_the_code_opens() -> None:
    for module, facts in MODULES.items():
        databases = {name for name, _ in _opened(module, "postgres")}
        assert databases == ({module} if "postgres" in facts["uses"] else set()), module
        assert bool(list(_opened(module, "redis"))) == ("valkey" in facts["uses"]), module
        assert ("ClickHouseSettings" in _source(module)) == ("clickhouse" in facts["uses"]), module
        assert "kafka" in facts["uses"], "every process follows the directory of tenants"


def test_a_module_keeps_a_journal_if_it_writes_frames_and_a_name_if_it_joins_a_group_by_it() -> None:
    for module, facts in MODULES.items():
        writes, named = bool(list(_opened(module, "frames"))), "resources.instance" in _source(module)
        assert facts.get("keeps") == ("journal" if writes else "name" if named else None), module


@pytest.mark.parametrize("topology", PLACEMENTS)
def test_policies_allow_the_call_graph_and_nothing_else(topology: str) -> None:
    """Method: every pair of pods and every port that anything listens on, judged as a network plugin does."""
    rendered = render({"topology": topology})
    placement = PLACEMENTS[topology]
    home = {module: process for process, modules in placement.items() for module in modules}
    wanted = {
        (process, home[callee], RPC)
        for process, modules in placement.items()
        for module in modules
        for callee in MODULES[module]["calls"]
    }
    wanted |= {
        (process, engine, PORTS[engine])
        for process, modules in placement.items()
        for module in modules
        for engine in MODULES[module]["uses"]
    }
    wanted |= {("prepare", engine, PORTS[engine]) for engine in PREPARED} | {("test", home["gateway"], HTTP)}
    wanted |= {("bridge", "kafka", PORTS["kafka"])}
    assert _allowed(rendered) == wanted


@pytest.mark.parametrize("topology", PLACEMENTS)
def test_visitors_of_the_load_tests_reach_the_door_and_nothing_else(topology: str) -> None:
    platform = render({"topology": topology})
    (door,) = [process for process, modules in PLACEMENTS[topology].items() if "gateway" in modules]
    together = Rendered([*platform.objects, *visitors({}).objects], "")
    assert _allowed(together) - _allowed(platform) == {("visitors", door, HTTP)}


def test_where_visitors_are_named_the_page_says_how_to_name_those_of_the_load_tests_and_no_other_pod_comes_in() -> None:
    (shown,) = re.findall(r"`(networkPolicy: \{visitors: .*\})`", (ROOT / "docs" / "deploy.md").read_text())
    rendered = render(yaml.safe_load(shown))
    pods = {component: labels for component, labels, _ in [*rendered.pods(), *visitors({}).pods()]}
    stranger = {**pods["visitors"], "app.kubernetes.io/name": "stranger"}

    def let_in(labels: Mapping[str, str]) -> bool:
        return _allows(rendered, "ingress", pods["gateway"], labels, HTTP)

    assert let_in(pods["visitors"])
    assert not let_in(stranger)
    assert not let_in(pods["links"])


def test_every_pod_is_under_a_policy_that_denies_what_no_other_allows() -> None:
    for values in PROFILES.values():
        rendered = render(values)
        deny = rendered.one("NetworkPolicy", "groundswell-default-deny")["spec"]
        assert set(deny) == {"podSelector", "policyTypes"}
        assert deny["policyTypes"] == ["Ingress", "Egress"]
        for component, labels, _ in rendered.pods():
            assert matches(deny["podSelector"], labels), component


def test_engines_outside_are_reached_at_their_port_and_only_by_those_who_use_them() -> None:
    rendered = render({"engines": PROFILES["engines outside"]["engines"]})
    for process, modules in PLACEMENTS["each"].items():
        uses = {engine for module in modules for engine in MODULES[module]["uses"]}
        egress = _policy(rendered, process)["egress"]
        ports = {port["port"] for rule in egress for port in rule["ports"]} - {53, RPC}
        pool = {POOL} if "postgres" in uses else set()
        assert ports == {{**PORTS, "valkey": 6380}[engine] for engine in uses} | pool, process
    assert POOL not in {port["port"] for rule in _policy(rendered, "prepare")["egress"] for port in rule["ports"]}
    (rule,) = [rule for rule in _policy(rendered, "live")["egress"] if rule["ports"] == [{"port": PORTS["kafka"]}]]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.1.0.0/16"}}]


def test_the_public_port_is_open_to_everybody_or_to_those_named_and_metrics_to_those_named() -> None:
    (rule,) = [rule for rule in _policy(render({}), "gateway")["ingress"] if rule["ports"] == [{"port": HTTP}]]
    assert "from" not in rule
    given = PROFILES["everything given"]
    ingress = _policy(render(given), "gateway")["ingress"]
    (rule,) = [rule for rule in ingress if rule["ports"] == [{"port": HTTP}]]
    assert given["networkPolicy"]["visitors"][0] in rule["from"]
    assert len(rule["from"]) == 2, "visitors, and the chart's own test"
    (rule,) = [rule for rule in ingress if rule["ports"] == [{"port": OPS}]]
    assert rule["from"] == given["telemetry"]["scrapers"]


def test_names_are_asked_where_the_page_says_that_they_are_answered() -> None:
    """Method: the values in its table, and what a policy would have to let through there."""
    table = (ROOT / "docs" / "deploy.md").read_text().partition("| names are answered by |")[2].partition("\n\n")[0]
    (openshift,) = [yaml.safe_load(cell) for cell in re.findall(r"`(networkPolicy: .*)`", table)]
    pods = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    node = {"ipBlock": {"cidr": "169.254.20.10/32"}}
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}
    for values, ports, peers in (({}, [53], [pods, node]), (openshift, [5353], [there])):
        rule = {"to": peers, "ports": [{"port": port, "protocol": each} for port in ports for each in ("UDP", "TCP")]}
        policies = [each["spec"] for each in render(values).of("NetworkPolicy") if "egress" in each["spec"]]
        assert len(policies) > len(PLACEMENTS["each"])
        for each in policies:
            assert each["egress"][0] == rule, each["podSelector"]


@pytest.mark.parametrize("component", ["operator", "bridge", "release"])
def test_who_has_a_token_reaches_the_api_server_wherever_it_is_or_where_it_is_said_to_be(component: str) -> None:
    ports = [{"port": 443}, {"port": 6443}]
    (rule,) = [rule for rule in _policy(render({}), component)["egress"] if rule["ports"] == ports]
    assert "to" not in rule
    peers = [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    given = render({"operator": {"apiServer": {"ports": [16443], "peers": peers}}})
    (rule,) = [rule for rule in _policy(given, component)["egress"] if rule["ports"] == [{"port": 16443}]]
    assert rule["to"] == peers


def test_nobody_but_who_has_a_token_reaches_the_api_server() -> None:
    reaching = {
        each["metadata"]["name"]
        for each in render({}).of("NetworkPolicy")
        for rule in each["spec"].get("egress", [])
        if {"port": 443} in rule["ports"]
    }
    assert reaching == {"groundswell-operator", "groundswell-bridge", "groundswell-release"}


def test_the_operator_reaches_the_receivers_of_notices_where_there_are_any() -> None:
    def reached(webhooks: Object) -> list[Object]:
        egress = _policy(render({"operator": {"webhooks": webhooks}}), "operator")["egress"]
        return [rule for rule in egress if rule["ports"] == [{"port": 8443}]]

    assert reached({"ports": [8443]}) == []
    assert reached({"ports": [8443], "secrets": ["hook"]}) == [{"ports": [{"port": 8443}]}]
    peers = [{"ipBlock": {"cidr": "10.0.0.7/32"}}]
    (rule,) = reached({"ports": [8443], "secrets": ["hook"], "peers": peers})
    assert rule["to"] == peers


def test_figures_of_operator_and_bridge_are_for_those_named() -> None:
    scrapers = PROFILES["everything given"]["telemetry"]["scrapers"]
    for component in ("operator", "bridge"):
        assert "ingress" not in _policy(render({}), component)
        (rule,) = _policy(render(PROFILES["everything given"]), component)["ingress"]
        assert rule == {"from": scrapers, "ports": [{"port": 8080}]}
    assert "ingress" not in _policy(render(PROFILES["everything given"]), "release"), "nobody asks it anything"


def _policy(rendered: Rendered, component: str) -> Object:
    found: Object = rendered.one("NetworkPolicy", f"groundswell-{component}")["spec"]
    return found


def _allowed(rendered: Rendered) -> set[tuple[str, str, int]]:
    """(from, to, port) for all that two pods may do; kubelets and callers from outside are no pods of the chart."""
    pods = {component: (labels, pod) for component, labels, pod in rendered.pods()}
    return {
        (source, target, port)
        for source, (labels, _) in pods.items()
        for target, (others, pod) in pods.items()
        for port in {each["containerPort"] for each in pod["containers"][0].get("ports", [])}
        if _allows(rendered, "egress", labels, others, port)
        and _allows(rendered, "ingress", others, labels, port, anybody=False)
    }


def _allows(
    rendered: Rendered, way: str, own: Mapping[str, str], other: Mapping[str, str], port: int, *, anybody: bool = True
) -> bool:
    """Whether a policy of the pod with labels `own` lets it do so; `anybody`: whether rules that name no peer count."""
    for policy in rendered.of("NetworkPolicy"):
        if matches(policy["spec"]["podSelector"], own):
            for rule in policy["spec"].get(way, []):
                peers = rule.get("to" if way == "egress" else "from")
                picked = any("podSelector" in peer and matches(peer["podSelector"], other) for peer in peers or [])
                open_door = peers is None and (anybody or other["app.kubernetes.io/component"] in OUTSIDE)
                if {"port": port} in rule["ports"] and (picked or open_door):
                    return True
    return False


def _opened(module: str, what: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls `resources.<what>(…)` in the module's wiring, with their first argument where it is a text."""
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"resources.{what}":
            first = node.args[0] if node.args else None
            yield str(first.value) if isinstance(first, ast.Constant) else "", node


def _source(module: str) -> str:
    package = main.MODULES[module].partition(":")[0]
    return Path(PACKAGE.parent, *package.split(".")).with_suffix(".py").read_text()
