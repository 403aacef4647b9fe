"""The chart of the load tests: what its objects keep to, and that it names what the platform's chart makes."""

import json
import re
import shlex
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import helm_python
import pytest
import yaml

from tests.cluster.chart import (
    LOADTESTS,
    NAMESPACE,
    PLACEMENTS,
    ROOT,
    Object,
    Rendered,
    matches,
    render,
    shown,
    visitors,
)
from tests.cluster.dockerfile import STAGES
from tests.cluster.test_objects import assert_fits, assert_restricted, validate

DIGEST = f"sha256:{'0' * 64}"
EVERYTHING_GIVEN = {
    "image": {"repository": "registry.example/loadtests", "digest": DIGEST, "pullSecrets": ["pull"]},
    "door": {
        "url": "https://go.example.com",
        "domain": "go.example.com",
        "port": 443,
        "peers": [{"ipBlock": {"cidr": "10.0.0.7/32"}}],
    },
    "key": {"secret": "own-keys", "key": "first"},
    "load": {
        "links": 1,
        "peak": 2000,
        "calmSeconds": 1,
        "spikeSeconds": 600,
        "doorSeconds": 0,
        "patienceSeconds": 9,
        "steadySeconds": 2,
    },
    "networkPolicy": {"dns": {"ports": [5353]}},
}
WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "a misspelt name": ({"load": {"peek": 3}}, "'/load': additional properties 'peek' not allowed"),
    "no visitors": ({"load": {"peak": 0}}, "'/load/peak': minimum"),
    "more visitors than one process is": ({"load": {"peak": 100_000}}, "'/load/peak': maximum"),
    "a door that is no URL": ({"door": {"url": "groundswell-door:8080"}}, "'/door/url'"),
    "a domain that is a URL": ({"door": {"domain": "http://localhost"}}, "'/door/domain'"),
    "pods that are nowhere": ({"door": {"peers": []}}, "'/door/peers': minItems"),
    "no key": ({"key": {"secret": ""}}, "'/key/secret'"),
    "a digest that is none": ({"image": {"digest": "sha256:12"}}, "'/image/digest'"),
    "no limit": ({"limits": None}, "missing property 'limits'"),
}


@pytest.mark.parametrize("values", [{}, EVERYTHING_GIVEN], ids=["as it stands", "everything given"])
def test_every_object_is_of_its_schema_restricted_and_found_by_its_policy(values: dict[str, Any]) -> None:
    report = helm_python.lint(LOADTESTS, values, strict=True, namespace=NAMESPACE, kube_version="v1.36.0")
    assert report["errors"] == []
    rendered = visitors(values)
    for each in rendered.objects:
        validate(json.dumps(each))
        assert each["metadata"]["namespace"] == NAMESPACE
    ((component, labels, pod),) = rendered.pods()
    assert_restricted(component, pod)
    assert_fits(component, pod)
    assert pod["automountServiceAccountToken"] is False
    (account,) = rendered.of("ServiceAccount")
    assert (pod["serviceAccountName"], account["automountServiceAccountToken"]) == (account["metadata"]["name"], False)
    (policy,) = rendered.of("NetworkPolicy")
    assert matches(policy["spec"]["podSelector"], labels)


@pytest.mark.parametrize(("values", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused_in_words(values: Mapping[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        visitors(values)
    assert words in str(refused.value)


def test_the_verdict_is_that_of_one_try_which_has_time_for_all_its_waits_and_is_another_job_in_each_revision() -> None:
    load = {"calmSeconds": 1, "spikeSeconds": 20, "doorSeconds": 300, "patienceSeconds": 4000}
    job, again = (visitors({"load": load}, revision=number).of("Job")[0] for number in (1, 2))
    assert job["metadata"]["name"] != again["metadata"]["name"]
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 2 * 1 + 20 + 300 + 4000


@pytest.mark.parametrize("topology", PLACEMENTS)
def test_as_it_stands_it_names_door_domain_and_key_of_the_platform_as_that_stands(topology: str) -> None:
    platform = render({"topology": topology})
    arguments = _arguments(visitors({}))
    door = platform.one("Service", "groundswell-door")
    (port,) = door["spec"]["ports"]
    assert arguments["--host"] == f"http://groundswell-door:{port['port']}"
    assert arguments["--domain"] == platform.one("ConfigMap", "groundswell-config")["data"]["LINKS_BASE_DOMAIN"]
    (job,) = visitors({}).of("Job")
    secret, _, key = visitors({}).environment(job)["GROUNDSWELL_API_KEY"].partition("/")
    assert platform.one("Secret", secret)["stringData"][key].startswith("gsk_2_"), "of the first tenant"


def test_what_the_page_types_beside_its_release_names_that_releases_door_and_is_taken() -> None:
    (production,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    public = yaml.safe_load(production)["public"]
    looking, installing = shown("## Visitors from inside")
    build, _, install = map(shlex.split, installing)
    assert build[build.index("--target") + 1] in STAGES
    assert install[3:7] == ["upgrade", "--install", LOADTESTS.name, str(LOADTESTS.relative_to(ROOT))]
    given = dict(pair.split("=") for flag, word in pairwise(install) if flag == "--set" for pair in word.split(","))
    assert given["image.repository"] == build[build.index("-t") + 1].partition(":")[0]
    rendered = visitors(nested(given))
    arguments = _arguments(rendered)
    assert arguments["--host"] == f"http://groundswell-door:{public['port']}"
    assert (arguments["--domain"], arguments["--peak"]) == (public["domain"], given["load.peak"])
    ((_, labels, _),) = rendered.pods()
    selectors = {word for line in looking for flag, word in pairwise(shlex.split(line)) if flag == "-l"}
    assert selectors == {f"app.kubernetes.io/name={labels['app.kubernetes.io/name']}"}


def test_a_key_is_never_among_the_arguments() -> None:
    """Whoever may read pods reads those."""
    (job,) = visitors(EVERYTHING_GIVEN).of("Job")
    (variable,) = _container(job)["env"]
    assert variable == {
        "name": "GROUNDSWELL_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "own-keys", "key": "first"}},
    }
    assert not [each for each in _container(job)["args"] if each.startswith("--key")]


def nested(given: Mapping[str, str]) -> Object:
    """Values as `--set` names them, numbers as such."""
    made: Object = {}
    for path, text in given.items():
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = int(text) if text.isdigit() else text
    return made


def _arguments(rendered: Rendered) -> dict[str, str]:
    """Options with a value."""
    (job,) = rendered.of("Job")
    return dict(each.split("=", 1) for each in _container(job)["args"] if "=" in each)


def _container(job: Object) -> Object:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: Object = container
    return found
