"""The charts as Helm's own engine renders them, and what their objects say, for tests to ask.

Nothing is installed anywhere: what holds here holds for the objects that Helm would send. A cluster that takes them is a test of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from charts import releasing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "groundswell"
LOADTESTS = ROOT / "charts" / "loadtests"
VERSION = releasing.version()
BEFORE = releasing.released()[-1]
"""The version that is upgraded from."""
RELEASE, NAMESPACE = "groundswell", "groundswell"
TOPOLOGY: Mapping[str, Any] = yaml.safe_load(
    (ROOT / "services" / "groundswell" / "engines" / "topology.yaml").read_text()
)
PLACEMENTS: Mapping[str, Mapping[str, Sequence[str]]] = TOPOLOGY["topologies"]
MODULES: Mapping[str, Mapping[str, Any]] = TOPOLOGY["modules"]

Object = dict[str, Any]
"""An object of Kubernetes, as its manifest says."""

ENGINES_OUTSIDE = {
    "kafka": {"external": {"address": "kafka.example:9092", "peers": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}},
    "valkey": {"external": {"secret": "valkey", "key": "url", "port": 6380}},
    "postgres": {"external": {"secret": "postgres", "key": "dsn", "replicasKey": "replicas", "poolKey": "pool"}},
    "clickhouse": {"external": {"secret": "clickhouse", "key": "dsn"}},
}
EVERYTHING_GIVEN = {
    "topology": "each",
    "image": {"repository": "registry.example/groundswell", "digest": f"sha256:{'0' * 64}", "pullSecrets": ["pull"]},
    "public": {
        "scheme": "https",
        "domain": "go.example.com",
        "port": 443,
        "service": {"type": "LoadBalancer", "annotations": {"example.com/kind": "outer"}},
        "trustedProxies": ["10.0.0.0/8"],
        "corsOrigins": ["https://app.example.com"],
    },
    "keys": {"existingSecret": "own-keys"},
    "storageClass": "fast",
    "settings": {"LINKS_CODE_SECRET": "x", "FRAMES_FLUSH_MS": 20},
    "telemetry": {
        "otlp": {"endpoint": "http://collector.seen:4318/v1/traces", "peers": [{"namespaceSelector": {}}]},
        "scrapers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "monitoring": "annotations",
        "rules": "configMap",
        "dashboards": True,
        "labels": {"release": "monitoring"},
    },
    "networkPolicy": {"visitors": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]},
    "processes": {"gateway": {"settings": {"GATEWAY_CACHE_BYTES_MAX": 1024}}},
    "engines": ENGINES_OUTSIDE,
}
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "as it stands": {},
    "all in one": {"topology": "all"},
    "engines outside": {"engines": ENGINES_OUTSIDE},
    "all in one, engines outside": {"topology": "all", "engines": ENGINES_OUTSIDE},
    "everything given": EVERYTHING_GIVEN,
    **{file.stem: yaml.safe_load(file.read_text()) for file in sorted((FOLDER / "profiles").glob("*.yaml"))},
}
FEW_VISITORS = {"links": 3, "peak": 20, "calmSeconds": 1, "spikeSeconds": 3, "doorSeconds": 0, "steadySeconds": 1}
"""A load of the load tests' chart that is over within seconds."""


@dataclass(frozen=True)
class Rendered:
    """What one set of values makes."""

    objects: Sequence[Object]
    notes: str

    def of(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        """The object of that name."""
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[str, Mapping[str, str], Object]]:
        """(component, labels, spec) of every pod that the objects make."""
        for each in self.of("Deployment", "StatefulSet", "Job", "Pod"):
            pod = each if each["kind"] == "Pod" else each["spec"]["template"]
            labels = pod["metadata"]["labels"]
            yield labels["app.kubernetes.io/component"], labels, pod["spec"]

    def processes(self) -> dict[str, Object]:
        """The workloads that run modules, by process."""
        found = {}
        for each in self.of("Deployment", "StatefulSet"):
            (container,) = each["spec"]["template"]["spec"]["containers"]
            if container.get("args", [""])[0] == "run":
                found[str(container["name"])] = each
        return found

    def least(self, workload: Object) -> int:
        """How many pods of a workload run at least: its autoscaler's floor, or its own number where it has no autoscaler."""
        floors = [
            each["spec"]["minReplicas"]
            for each in self.of("HorizontalPodAutoscaler")
            if each["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
        ]
        return int(floors[0] if floors else workload["spec"]["replicas"])

    def preparation(self) -> Object:
        """The job that prepares databases and topics; its name changes with what it does."""
        (found,) = [
            each for each in self.of("Job") if each["spec"]["template"]["spec"]["containers"][0]["name"] == "prepare"
        ]
        return found

    def rights(self, part: str) -> list[Object]:
        """The rules of the Role of a part."""
        found: list[Object] = self.one("Role", f"{RELEASE}-{part}")["rules"]
        return found

    def environment(self, workload: Object) -> dict[str, str]:
        """The variables of the one container of a workload; those out of a Secret as `secret/key`, out of a field as its path."""
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            found[variable["name"]] = variable["value"] if "value" in variable else _source(variable["valueFrom"])
        return found


def _source(source: Mapping[str, Mapping[str, str]]) -> str:
    if "secretKeyRef" in source:
        return "{name}/{key}".format(**source["secretKeyRef"])
    return source["fieldRef"]["fieldPath"]


def render(values: Mapping[str, Any], *, upgrade: bool = False, folder: Path = FOLDER) -> Rendered:
    """What `helm install` (or `helm upgrade`) would send; raises what Helm says."""
    return _render(json.dumps(values), upgrade, folder)


@cache
def _render(values: str, upgrade: bool, folder: Path) -> Rendered:
    with helm_python.Chart.load(folder) as chart:
        return parsed(
            chart.render(
                json.loads(values), name=RELEASE, namespace=NAMESPACE, is_install=not upgrade, is_upgrade=upgrade
            )
        )


def visitors(values: Mapping[str, Any], *, revision: int = 1) -> Rendered:
    """What a revision of the load tests' chart would send, beside a release of the platform."""
    with helm_python.Chart.load(LOADTESTS) as chart:
        return parsed(chart.render(dict(values), name=LOADTESTS.name, namespace=NAMESPACE, revision=revision))


def later(folder: Path, *, version: str, app_version: str) -> Path:
    """The chart under other versions, in a folder."""
    made = folder / "groundswell"
    shutil.copytree(FOLDER, made)
    file = made / "Chart.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"version": version, "appVersion": app_version}))
    return made


def parsed(files: Mapping[str, str]) -> Rendered:
    """The objects in rendered templates."""
    objects = [
        each for name, text in files.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each
    ]
    return Rendered(objects, next(text for name, text in files.items() if name.endswith("NOTES.txt")))


def shown(section: str) -> list[list[str]]:
    """The commands that a section of docs/deploy.md shows, block by block."""
    text = (ROOT / "docs" / "deploy.md").read_text().partition(f"{section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"\\\n\s*", "", block).strip().splitlines() for block in blocks]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector of labels (the chart uses `matchLabels` only) picks these."""
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def amount(quantity: str | int) -> float:
    """A quantity of Kubernetes as a number."""
    text = str(quantity)
    for suffix, factor in {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3}.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)
