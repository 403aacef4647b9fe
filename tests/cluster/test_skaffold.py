"""skaffold.yaml builds the images that the Dockerfile makes, gives each to its chart, and opens a service that is there."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.cluster.chart import LOADTESTS, RELEASE, ROOT, render, shown, visitors
from tests.cluster.dockerfile import STAGES

CONFIG: dict[str, Any]
LOADING: dict[str, Any]
CONFIG, LOADING = yaml.safe_load_all((ROOT / "skaffold.yaml").read_text())
PROFILES = {each["name"]: each for each in CONFIG["profiles"]}


def patched(*profiles: str, of: dict[str, Any] = CONFIG) -> dict[str, Any]:
    """A configuration with the patches of these of its profiles (RFC 6902, `add` only)."""
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(of))
    named = {each["name"]: each for each in of["profiles"]}
    for patch in (patch for name in profiles for patch in named[name]["patches"]):
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
    """The values that the release is given, templates as Skaffold fills them: a name's `-` is `_` there."""
    release = config["deploy"]["helm"]["releases"][0]
    (artifact,) = config["build"]["artifacts"]
    image = re.escape(artifact["image"].replace("-", "_"))
    found: dict[str, Any] = {}
    for file in release["valuesFiles"]:
        found = merged(found, yaml.safe_load((ROOT / file).read_text()))
    for name, text in {**release.get("setValues", {}), **release["setValueTemplates"]}.items():
        filled = re.sub(
            rf"\{{\{{\.IMAGE_(REPO|TAG)_{image}\}}\}}",
            lambda m: {"REPO": f"there/{artifact['image']}", "TAG": "a1b2"}[m[1]],
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


def test_the_configurations_are_of_the_version_that_is_meant() -> None:
    for config, name in ((CONFIG, "groundswell"), (LOADING, "loadtests")):
        told = (config["apiVersion"], config["kind"], config["metadata"]["name"])
        assert told == ("skaffold/v4beta13", "Config", name)


def test_they_build_the_two_last_stages_of_the_dockerfile() -> None:
    (platform,), (loading,) = (config["build"]["artifacts"] for config in (CONFIG, LOADING))
    assert [loading["docker"]["target"], platform["docker"]["target"]] == [*STAGES][-2:]
    assert platform["image"] != loading["image"]
    for artifact in (platform, loading):
        assert (ROOT / artifact["context"] / artifact["docker"]["dockerfile"]) == ROOT / "Dockerfile"


@pytest.mark.parametrize("profiles", [(), ("kind",)])
def test_visitors_come_in_the_image_of_the_load_tests_to_the_platform_that_is_installed_with_them(
    profiles: tuple[str, ...],
) -> None:
    """Same namespace, same release: what the chart of the load tests names as it stands is what the other makes."""
    assert LOADING["requires"] == [{"configs": [CONFIG["metadata"]["name"]]}]
    config, platform = patched(*profiles, of=LOADING), patched(*profiles)
    assert config["build"]["local"] == platform["build"]["local"], "pushed where the other is"
    (release,), ours = config["deploy"]["helm"]["releases"], platform["deploy"]["helm"]["releases"][0]
    assert (ROOT / release["chartPath"], release["name"]) == (LOADTESTS, LOADTESTS.name)
    assert (release["namespace"], ours["name"]) == (ours["namespace"], RELEASE)
    ((_, _, pod),) = visitors(values(config)).pods()
    assert pod["containers"][0]["image"] == "there/groundswell-loadtests:a1b2"


def test_who_names_no_configuration_gets_both_so_the_pages_name_one() -> None:
    pages = [ROOT / "skaffold.yaml", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    commands = [each for page in pages for each in re.findall(r"skaffold (?:dev|run)(?: -\w \w+)*", page.read_text())]
    assert {" ".join(each.split()[2:4]) for each in commands} == {"-m groundswell", "-m loadtests"}


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
