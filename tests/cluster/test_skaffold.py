"""skaffold.yaml builds the images that the Dockerfile makes, gives each to its chart, and opens a service that is there."""

import json
import re
import shlex
from itertools import permutations
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.cluster.chart import FOLDER, LOADTESTS, RELEASE, ROOT, render, shown, visitors
from tests.cluster.conftest import UNBUILT
from tests.cluster.dockerfile import STAGES
from tests.cluster.tools.schema import SKAFFOLD

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PROFILES: dict[str, dict[str, Any]] = {each["name"]: each for each in CONFIG["profiles"]}
BY_ITSELF = [name for name, profile in PROFILES.items() if "activation" in profile]
"""Profiles that Skaffold chooses where they fit, before those that are named."""
NAMED = [name for name in PROFILES if name not in BY_ITSELF]
COMBINED = [
    (*chosen, *named)
    for chosen in ((), tuple(BY_ITSELF))
    for number in range(len(NAMED) + 1)
    for named in permutations(NAMED, number)
]
"""Every set of profiles, in every order in which they may be named."""


def patched(*profiles: str) -> dict[str, Any]:
    """The configuration with the patches of these profiles (RFC 6902, `add` only)."""
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG))
    for patch in (patch for name in profiles for patch in PROFILES[name]["patches"]):
        assert patch["op"] == "add"
        place, last = spot(config, patch["path"])
        if last == "-":
            place.append(patch["value"])
        else:
            place[last] = patch["value"]
    return config


def spot(config: dict[str, Any], path: str) -> tuple[Any, str]:
    """What the path of a patch leads to, and its last step from there."""
    *steps, last = path.strip("/").split("/")
    place: Any = config
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    return place, last


def release_in(config: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in config["deploy"]["helm"]["releases"] if each["name"] == name]
    return dict(found)


def values(config: dict[str, Any], name: str = RELEASE) -> dict[str, Any]:
    """The values that a release is given, templates as Skaffold fills them: an image's `-` is `_` in their names."""
    release, known = release_in(config, name), dict[str, str]()
    for image in (artifact["image"] for artifact in config["build"]["artifacts"]):
        variable = image.replace("-", "_")
        known |= {f"IMAGE_REPO_{variable}": f"there/{image}", f"IMAGE_TAG_{variable}": f"digest-of-{image}"}
    found: dict[str, Any] = {}
    for file in release["valuesFiles"]:
        found = merged(found, yaml.safe_load((ROOT / file).read_text()))
    for path, text in {**release.get("setValues", {}), **release["setValueTemplates"]}.items():
        *parents, last = path.split(".")
        place = found
        for step in parents:
            place = place.setdefault(step, {})
        place[last] = re.sub(r"\{\{\.(\w+)\}\}", lambda match: known[match[1]], text)
    return found


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """As Helm takes one file of values after the other."""
    both = {name: (first[name], value) for name, value in second.items() if name in first}
    deeper = {name: merged(*pair) for name, pair in both.items() if all(isinstance(each, dict) for each in pair)}
    return first | second | deeper


def test_the_configuration_is_of_the_version_that_is_meant() -> None:
    told = (CONFIG["apiVersion"], CONFIG["kind"], CONFIG["metadata"]["name"])
    assert told == ("skaffold/v4beta13", "Config", "groundswell")


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    """Skaffold's own; skips where it was not fetched."""
    if not SKAFFOLD.file().exists():
        pytest.skip(UNBUILT)
    return Draft7Validator(json.loads(SKAFFOLD.file().read_text()))


@pytest.mark.parametrize("profiles", COMBINED, ids="+".join)
def test_skaffolds_own_schema_takes_the_configuration_with_whichever_profiles(
    profiles: tuple[str, ...], schema: Draft7Validator
) -> None:
    assert [*schema.iter_errors(patched(*profiles))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/deploy/helm/releases/0/chart", "charts/groundswell"),
        ("/portForward/0/port", []),
        ("/profiles/0/activate", [{"kubeContext": "kind-kind"}]),
    ],
)
def test_the_schema_refuses_what_skaffold_would_not_read(path: str, value: object, schema: Draft7Validator) -> None:
    """The control."""
    config = patched()
    place, last = spot(config, path)
    place[last] = value
    assert not schema.is_valid(config)


def test_who_names_no_profile_gets_the_platform_and_no_visitors() -> None:
    """Wherever kubectl points to: also with all the profiles that choose themselves."""
    for config in (patched(), patched(*BY_ITSELF)):
        assert [each["image"] for each in config["build"]["artifacts"]] == ["groundswell"]
        releases = config["deploy"]["helm"]["releases"]
        assert [ROOT / each["chartPath"] for each in releases if "chartPath" in each] == [FOLDER]
    assert "requires" not in CONFIG, "no other configuration comes along"


def test_the_pages_show_every_profile_that_is_named_and_no_other_word() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for text in ((ROOT / "skaffold.yaml").read_text(), "".join(page.read_text() for page in pages)):
        commands = re.findall(r"skaffold (?:dev|run)((?: -\w+ \w+)*)", text)
        assert {*commands} == {"", *(f" -p {name}" for name in NAMED)}


def test_the_images_are_the_two_last_stages_of_the_dockerfile() -> None:
    platform, loading = patched("loadtests")["build"]["artifacts"]
    assert [loading["docker"]["target"], platform["docker"]["target"]] == [*STAGES][-2:]
    assert platform["image"] != loading["image"]
    for artifact in (platform, loading):
        assert (ROOT / artifact["context"] / artifact["docker"]["dockerfile"]) == ROOT / "Dockerfile"


@pytest.mark.parametrize("profiles", [each for each in COMBINED if "loadtests" in each], ids="+".join)
def test_visitors_come_in_their_own_image_to_the_platform_that_is_installed_before_them(
    profiles: tuple[str, ...],
) -> None:
    """Same namespace, same release: what the chart of the load tests names as it stands is what the other makes."""
    config = patched(*profiles)
    release, platform = release_in(config, LOADTESTS.name), release_in(config, RELEASE)
    assert ROOT / release["chartPath"] == LOADTESTS
    assert release["namespace"] == platform["namespace"]
    assert release["dependsOn"] == [platform["name"]], "which makes the namespace and the key"
    ((_, _, pod),) = visitors(values(config, LOADTESTS.name)).pods()
    assert pod["containers"][0]["image"] == "there/groundswell-loadtests:digest-of-groundswell-loadtests"


@pytest.mark.parametrize("profiles", COMBINED, ids="+".join)
def test_every_profile_gives_the_built_image_to_the_whole_chart(profiles: tuple[str, ...]) -> None:
    config = patched(*profiles)
    release = config["deploy"]["helm"]["releases"][0]
    assert ROOT / release["chartPath"] == FOLDER
    assert release["name"] == RELEASE
    rendered = render(values(config))
    images = {pod["containers"][0]["image"] for component, _, pod in rendered.pods() if component not in ENGINES}
    assert images == {"there/groundswell:digest-of-groundswell"}
    forward = config["portForward"][0]
    service = rendered.one("Service", forward["resourceName"])
    assert forward["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert forward["namespace"] == release["namespace"]


@pytest.mark.parametrize("profiles", COMBINED, ids="+".join)
def test_what_a_profile_adds_is_there_whatever_else_is_named_and_in_whichever_order(profiles: tuple[str, ...]) -> None:
    config = patched(*profiles)
    for patch in (patch for name in profiles for patch in PROFILES[name]["patches"]):
        place, last = spot(config, patch["path"])
        assert patch["value"] in (place if last == "-" else [place[last]]), patch["path"]


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
