"""skaffold.yaml builds the image that the Dockerfile makes, gives it to the chart, and opens a service that is there."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.cluster.chart import RELEASE, ROOT, render, shown

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PROFILES = {each["name"]: each for each in CONFIG["profiles"]}


def patched(*profiles: str) -> dict[str, Any]:
    """The configuration with the patches of these profiles (RFC 6902, `add` only)."""
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG))
    for patch in (patch for name in profiles for patch in PROFILES[name]["patches"]):
        assert patch["op"] == "add"
        *path, last = patch["path"].strip("/").split("/")
        place: Any = config
        for step in path:
            place = place[int(step) if isinstance(place, list) else step]
        if last == "-":
            place.append(patch["value"])
        else:
            place[last] = patch["value"]
    return config


def values(config: dict[str, Any]) -> dict[str, Any]:
    """The values that the release is given, templates as Skaffold fills them."""
    release = config["deploy"]["helm"]["releases"][0]
    found: dict[str, Any] = {}
    for file in release["valuesFiles"]:
        found = merged(found, yaml.safe_load((ROOT / file).read_text()))
    for name, text in {**release.get("setValues", {}), **release["setValueTemplates"]}.items():
        filled = re.sub(
            r"\{\{\.IMAGE_(REPO|TAG)_groundswell\}\}",
            lambda m: {"REPO": "there/groundswell", "TAG": "a1b2"}[m[1]],
            text,
        )
        place = found
        *path, last = name.split(".")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = filled
    return found


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """As Helm takes one file of values after the other."""
    both = {name: (first[name], value) for name, value in second.items() if name in first}
    deeper = {name: merged(*pair) for name, pair in both.items() if all(isinstance(each, dict) for each in pair)}
    return first | second | deeper


def test_the_configuration_is_of_the_version_that_is_meant() -> None:
    assert (CONFIG["apiVersion"], CONFIG["kind"], CONFIG["metadata"]["name"]) == (
        "skaffold/v4beta13",
        "Config",
        "groundswell",
    )


def test_it_builds_the_last_stage_of_the_dockerfile() -> None:
    (artifact,) = CONFIG["build"]["artifacts"]
    dockerfile = (ROOT / artifact["context"] / artifact["docker"]["dockerfile"]).read_text()
    assert re.findall(r"^FROM .* AS (\w+)", dockerfile, re.MULTILINE)[-1] == artifact["docker"]["target"]


@pytest.mark.parametrize("profiles", [(), ("kind",), ("debug",), ("kind", "debug"), ("kind", "observability")])
def test_every_profile_gives_the_built_image_to_the_whole_chart(profiles: tuple[str, ...]) -> None:
    config = patched(*profiles)
    release = config["deploy"]["helm"]["releases"][0]
    assert (ROOT / release["chartPath"] / "Chart.yaml").exists()
    assert release["name"] == RELEASE
    rendered = render(values(config))
    images = {pod["containers"][0]["image"] for component, _, pod in rendered.pods() if component not in ENGINES}
    assert images == {"there/groundswell:a1b2"}
    forward = config["portForward"][0]
    service = rendered.one("Service", forward["resourceName"])
    assert forward["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert forward["namespace"] == release["namespace"]


ENGINES = {"kafka", "valkey", "postgres", "clickhouse"}


def test_the_profile_for_kind_pushes_nothing_and_fits_a_small_node() -> None:
    config = patched("kind")
    assert config["build"]["local"]["push"] is False
    (activation,) = PROFILES["kind"]["activation"]
    assert re.fullmatch(activation["kubeContext"], "kind-kind")
    rendered, cpu, memory_mib = render(values(config)), 0.0, 0.0
    for each in rendered.of("Deployment", "StatefulSet"):
        requests = each["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
        cpu += rendered.least(each) * _number(requests["cpu"], {"m": 1e-3})
        memory_mib += rendered.least(each) * _number(requests["memory"], {"Mi": 1, "Gi": 1024})
    assert cpu <= 4
    assert memory_mib <= 6 * 1024


def test_the_profile_for_kind_brings_the_metrics_that_autoscalers_there_would_lack_and_the_page_says_the_same() -> None:
    """The public chart itself is not here: what is held is that it is asked for as the page asks for it, and talks to kind's kubelets."""
    ours, metrics = patched("kind")["deploy"]["helm"]["releases"]
    assert (ours["name"], metrics["namespace"]) == (RELEASE, "kube-system")
    assert re.fullmatch(r"\d+\.\d+\.\d+", metrics["version"])
    (values_file,) = metrics["valuesFiles"]
    given = yaml.safe_load((ROOT / values_file).read_text())
    assert given == {"args": ["--kubelet-insecure-tls"]}
    (by_hand,) = [line for block in shown("## kind, from zero") for line in block if "metrics-server" in line]
    words = shlex.split(by_hand)
    assert words[:5] == ["helm", "upgrade", "--install", metrics["name"], metrics["remoteChart"]]
    options = dict(zip(words[5::2], words[6::2], strict=True))
    assert options == {
        "--repo": metrics["repo"],
        "--version": metrics["version"],
        "--namespace": metrics["namespace"],
        "--values": values_file,
    }
    assert "metrics-server" not in str(patched()["deploy"]), (
        "other clusters have one, or one that trusts their kubelets"
    )


def test_the_profile_for_debugging_lets_processes_say_everything() -> None:
    data = render(values(patched("debug"))).one("ConfigMap", "groundswell-config")["data"]
    assert data["TELEMETRY_LOG_LEVEL"] == "DEBUG"


def test_the_profile_for_looking_installs_what_finds_pods_rules_and_dashboards() -> None:
    """The public charts themselves are not here: what is held is that their values name what ours makes."""
    config = patched("observability")
    ours, prometheus, grafana = config["deploy"]["helm"]["releases"]
    for each in (prometheus, grafana):
        assert re.fullmatch(r"\d+\.\d+\.\d+", each["version"])
        assert each["namespace"] == ours["namespace"]
        assert each["dependsOn"] == [ours["name"]], "which makes the namespace and what they mount"
    rendered = render(values(config))
    server, drawing = (yaml.safe_load((ROOT / each["valuesFiles"][0]).read_text()) for each in (prometheus, grafana))
    (mount,) = server["server"]["extraConfigmapMounts"]
    assert rendered.one("ConfigMap", mount["configMap"])["data"].keys() == {"objectives.yaml", "product.yaml"}
    assert server["serverFiles"]["prometheus.yml"]["rule_files"] == [f"{mount['mountPath']}/*.yaml"]
    sidecar = drawing["sidecar"]["dashboards"]
    shown = [each for each in rendered.of("ConfigMap") if each["metadata"]["labels"].get(sidecar["label"])]
    assert {each["metadata"]["labels"][sidecar["label"]] for each in shown} == {sidecar["labelValue"]}
    (source,) = drawing["datasources"]["datasources.yaml"]["datasources"]
    assert source["url"] == f"http://{config['portForward'][1]['resourceName']}"
    assert len(shown) == 4


def _number(quantity: str, factors: dict[str, float]) -> float:
    return next(
        (float(quantity.removesuffix(unit)) * f for unit, f in factors.items() if quantity.endswith(unit)), 0.0
    ) or float(quantity)
