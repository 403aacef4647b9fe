"""Values that would make something else than was meant are refused, in words that say which and why."""

import re
from collections.abc import Mapping
from typing import Any

import helm_python
import pytest
import yaml

from tests.cluster.chart import FOLDER, MODULES, NAMESPACE, PLACEMENTS, ROOT, render

WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "a topology that there is not": ({"topology": "some"}, "'/topology': value must be one of 'each', 'all'"),
    "a misspelt name": ({"public": {"domian": "x.org"}}, "'/public': additional properties 'domian' not allowed"),
    "a domain that is a URL": ({"public": {"domain": "https://x.org"}}, "'/public/domain'"),
    "no pod at least": ({"processes": {"links": {"replicas": {"min": 0}}}}, "'/processes/links/replicas/min': minimum"),
    "a least above the most": (
        {"processes": {"links": {"replicas": {"min": 50}}}},
        "processes.links.replicas.min is 50, which is above its max, 30",
    ),
    "more pods than can share the work": (
        {"processes": {"live": {"replicas": {"max": 2}}}},
        "processes.live.replicas.max is 2, but of its modules (live) at most 1 can share the work",
    ),
    "two of a process that holds everything": (
        {"topology": "all", "processes": {"all": {"replicas": {"max": 2}}}},
        "processes.all.replicas.max is 2",
    ),
    "no limit": ({"processes": {"links": {"limits": None}}}, "'/processes/links': missing property 'limits'"),
    "a size that is none": ({"processes": {"gateway": {"journal": "big"}}}, "'/processes/gateway/journal'"),
    "a journal without a size": (
        {"processes": {"gateway": {"journal": None}}},
        "processes.gateway keeps a journal: say how big its volume is (processes.gateway.journal)",
    ),
    "a process without values": (
        {"processes": {"links": None}},
        "values have nothing under processes.links, which topology each runs",
    ),
    "a setting in small letters": (
        {"settings": {"links_base_domain": "x"}},
        "'/settings': additional properties 'links_base_domain'",
    ),
    "a moving tag": ({"image": {"tag": "latest"}}, "image.tag is `latest`"),
    "a digest that is none": ({"image": {"digest": "sha256:12"}}, "'/image/digest'"),
    "an engine's image without a version": (
        {"engines": {"kafka": {"image": "apache/kafka"}}},
        "'/engines/kafka/image'",
    ),
    "metrics that nobody may read": (
        {"telemetry": {"monitoring": "annotations"}},
        "telemetry.monitoring is annotations, but the network policies let nobody read metrics",
    ),
    "rules that are neither": ({"telemetry": {"rules": "yes"}}, "'/telemetry/rules': value must be one of 'none', "),
    "a password where everybody reads it": (
        {"engines": {"valkey": {"external": {"address": "redis://:secret@valkey:6379"}}}},
        "engines.valkey.external.address holds a password",
    ),
    "a database by its address": (
        {"engines": {"postgres": {"external": {"address": "postgresql://x"}}}},
        "'/engines/postgres/external': additional properties 'address' not allowed",
    ),
    "a secret without its key": (
        {"engines": {"clickhouse": {"external": {"secret": "x"}}}},
        "'/engines/clickhouse/external': properties 'key' required, if 'secret' exists",
    ),
    "a port without an address": (
        {"engines": {"kafka": {"external": {"port": 9093}}}},
        "'/engines/kafka/external': properties 'address' required, if 'port' exists",
    ),
    "an address and a secret": (
        {"engines": {"valkey": {"external": {"address": "redis://v:6379", "secret": "x", "key": "y"}}}},
        "engines.valkey.external has an address and a secret: give one of them",
    ),
    "a port of an engine that is nowhere": (
        {"engines": {"valkey": {"external": {"port": 6380}}}},
        "engines.valkey.external says how an engine outside is reached, but not where it is",
    ),
    "peers of an engine that is nowhere": (
        {"engines": {"valkey": {"external": {"peers": [{"podSelector": {}}]}}}},
        "engines.valkey.external says how an engine outside is reached, but not where it is",
    ),
    "more memory than the limit": (
        {"processes": {"links": {"requests": {"memory": "1.5Gi"}, "limits": {"memory": "1500M"}}}},
        "processes.links.requests.memory is 1.5Gi, which is above its limit, 1500M",
    ),
    "more of a processor than the limit": (
        {"operator": {"requests": {"cpu": "251m"}, "limits": {"cpu": 0.25}}},
        "operator.requests.cpu is 251m, which is above its limit, 0.25",
    ),
    "an engine that asks for more than its limit": (
        {"engines": {"kafka": {"requests": {"cpu": 3}, "limits": {"cpu": "2"}}}},
        "engines.kafka.requests.cpu is 3, which is above its limit, 2",
    ),
    "more pods than the database has memory for": (
        {"processes": {"links": {"replicas": {"max": 100}}}},
        "engines.postgres.limits.memory is 4Gi, and the 1560 connections that all pods may open (processes.*.replicas.max) want 5192Mi",
    ),
    "a preparation that asks for more than its limit": (
        {"prepare": {"requests": {"memory": 4294967297}, "limits": {"memory": "4Gi"}}},
        "prepare.requests.memory is 4.294967297e+09, which is above its limit, 4Gi",
    ),
    "an engine that there is not": ({"engines": {"mongodb": {}}}, "'/engines': additional properties 'mongodb'"),
    "no operator, but not switched off": ({"operator": {"replicas": 0}}, "'/operator/replicas': minimum"),
    "an API server at no port": ({"operator": {"apiServer": {"ports": []}}}, "'/operator/apiServer/ports': minItems"),
    "a level that is none": ({"operator": {"logLevel": "loud"}}, "'/operator/logLevel': value must be one of"),
    "a percentage above all": ({"autoscaling": {"cpuPercent": 150}}, "'/autoscaling/cpuPercent': maximum"),
    "names at no port": ({"networkPolicy": {"dns": {"ports": []}}}, "'/networkPolicy/dns/ports': minItems"),
    "names that nobody answers": ({"networkPolicy": {"dns": {"peers": []}}}, "'/networkPolicy/dns/peers': minItems"),
}


@pytest.mark.parametrize(("values", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused_in_words(values: Mapping[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["ground.swell", "1groundswell", "a.groundswell-b"])
def test_a_release_whose_services_could_not_be_named_is_refused_before_anything_is_there(name: str) -> None:
    """Helm takes such names; the API server takes what comes first then, and refuses the Services behind it."""
    with helm_python.Chart.load(FOLDER) as chart, pytest.raises(helm_python.HelmError) as refused:
        chart.render({}, name=name, namespace=NAMESPACE, is_install=True)
    assert f"the release is named {name}, and no Service may be" in str(refused.value)


@pytest.mark.parametrize(
    ("request_", "limit"), [("100m", 0.1), ("1Gi", "1.1G"), ("1024Mi", "1Gi"), (1, "1000m"), ("500M", 500_000_000)]
)
def test_what_is_asked_for_may_be_all_that_there_is(request_: str | float, limit: str | float) -> None:
    found = {"cpu": request_, "memory": request_}, {"cpu": limit, "memory": limit}
    render({"processes": {"links": {"requests": found[0], "limits": found[1]}}})


def test_the_values_that_the_page_shows_are_taken_as_they_stand() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    rendered = render(yaml.safe_load(shown))
    assert set(rendered.processes()) == set(PLACEMENTS["each"])
    engines = {each["metadata"]["name"] for each in rendered.of("StatefulSet")} - {
        f"groundswell-{process}" for process in PLACEMENTS["each"]
    }
    assert not engines, "all of them are outside"


def test_no_service_takes_more_than_twenty_lines_of_values() -> None:
    tree: Any = yaml.compose((FOLDER / "values.yaml").read_text())
    (processes,) = [value for key, value in tree.value if key.value == "processes"]
    for key, value in processes.value:
        assert value.end_mark.line - key.start_mark.line <= 20, key.value


def test_no_reader_of_the_log_has_more_processes_than_partitions() -> None:
    frames = yaml.safe_load((ROOT / "protos" / "topics" / "analytics.frames.v1.yaml").read_text())
    assert frames["consumers"] == ["writer", "live"]
    assert MODULES["writer"]["processes_max"] == frames["partitions"]
    assert MODULES["live"]["processes_max"] == 1, "each knows its own partitions, and its caller asks one"
    with helm_python.Chart.load(FOLDER) as chart:
        values = chart.values["processes"]
    for module, facts in MODULES.items():
        if "processes_max" in facts:
            for placement in PLACEMENTS.values():
                for process in (name for name, modules in placement.items() if module in modules):
                    assert values[process]["replicas"]["max"] <= facts["processes_max"], process
