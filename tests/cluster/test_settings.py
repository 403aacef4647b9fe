"""What the chart tells processes: settings that exist, and all those whose defaults are of a laptop."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

import groundswell
from groundswell.kernel import settings
from groundswell.kernel.resources import EngineSettings, ProcessSettings
from tests.cluster.chart import MODULES, PLACEMENTS, PROFILES, Rendered, render

LAPTOP = ("127.0.0.1", "localhost", ".groundswell", "console/dist")
ENGINE_OF = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka",
    "REDIS_URL": "valkey",
    "POSTGRES_DSN": "postgres",
    "CLICKHOUSE_DSN": "clickhouse",
}
LEFT = {
    "GROUNDSWELL_STATE_FILE": "there is no supervisor",
    "GROUNDSWELL_LEFT": "a pod sees no volume but its own",
    "POSTGRES_POOL_DSN": "without it transactions go to the server itself; it comes with a PostgreSQL outside",
    "POSTGRES_REPLICA_DSN": "without it lists are read from the primary; it comes with a PostgreSQL outside",
    "LINKS_CODE_SECRET": "comes from the internal key",
    "GATEWAY_HOST_ALIASES": "the loopback names of localhost mislead nobody",
    "GATEWAY_CONSOLE": "the image says where its console is",
}
"""Settings whose default is empty or a laptop's and which the chart leaves, with the reason."""


def sections() -> Iterator[type[Any]]:
    """Every settings class of the platform."""
    seen = set()
    for found in pkgutil.walk_packages(groundswell.__path__, "groundswell."):
        if found.name.split(".")[1] in {"api", "engines", "__main__"}:
            continue
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, type) and hasattr(value, "__settings_prefix__") and value not in seen:
                seen.add(value)
                yield value


SETTINGS: Mapping[str, object] = {
    f"{section.__settings_prefix__}_{each.name}".upper().lstrip("_"): each.default
    for section in sections()
    for each in fields(section)
}
"""Every variable that a process reads, and its default."""


def test_the_list_of_settings_is_whole() -> None:
    assert len(SETTINGS) > 50
    assert MISSING not in SETTINGS.values()
    assert {"GROUNDSWELL_INSTANCE", "WRITER_FLUSH_MS", "FRAMES_TOPIC", "KAFKA_BOOTSTRAP_SERVERS"} <= set(SETTINGS)


@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES.keys())
def test_the_environment_names_only_settings_that_exist_and_can_be_read(values: Mapping[str, Any]) -> None:
    rendered = render(values)
    for process, workload in rendered.processes().items():
        environment = rendered.environment(workload)
        assert set(environment) <= set(SETTINGS), process
        readable = {name: value for name, value in environment.items() if "/" not in value or "://" in value}
        for section in sections():
            settings.load(section, readable)


@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES.keys())
def test_every_setting_without_a_default_for_a_cluster_is_given_to_those_who_read_it(values: Mapping[str, Any]) -> None:
    """A new setting whose default is empty or names this machine fails here, until the chart gives it or a reason is written down."""
    wanting = {name for name, default in SETTINGS.items() if _of_a_laptop(default)} - set(LEFT)
    rendered = render(values)
    for process, workload in rendered.processes().items():
        modules = _modules(rendered, process)
        uses = {engine for module in modules for engine in MODULES[module]["uses"]}
        here = {name for name in wanting if name not in ENGINE_OF or ENGINE_OF[name] in uses}
        if "identity" not in modules:
            here.discard("IDENTITY_BOOTSTRAP_KEYS")
        assert here <= set(rendered.environment(workload)), process


def test_secrets_go_to_those_who_need_them_and_to_nobody_else() -> None:
    rendered = render({})
    for process, workload in rendered.processes().items():
        modules, environment = _modules(rendered, process), rendered.environment(workload)
        uses = {engine for module in modules for engine in MODULES[module]["uses"]}
        for variable, engine in {"POSTGRES_DSN": "postgres", "CLICKHOUSE_DSN": "clickhouse"}.items():
            assert (variable in environment) == (engine in uses), process
        assert ("IDENTITY_BOOTSTRAP_KEYS" in environment) == ("identity" in modules), process
    for each in rendered.of("ConfigMap"):
        assert not any(re.search(r"://[^/\s]*@", value) for value in each["data"].values())


@pytest.mark.parametrize("topology", PLACEMENTS)
def test_every_module_is_called_at_the_service_of_its_process(topology: str) -> None:
    rendered = render({"topology": topology})
    told = ProcessSettings(endpoints=rendered.one("ConfigMap", "groundswell-config")["data"]["GROUNDSWELL_ENDPOINTS"])
    endpoints = dict(part.split("=") for part in told.endpoints.split(","))
    home = {module: process for process, modules in PLACEMENTS[topology].items() for module in modules}
    assert endpoints == {
        module: f"groundswell-{process}.groundswell.svc.cluster.local:4000" for module, process in home.items()
    }
    for process in PLACEMENTS[topology]:
        assert rendered.one("Service", f"groundswell-{process}")["spec"]["clusterIP"] == "None"


def test_an_address_that_is_given_replaces_the_engine_in_the_chart_wholly() -> None:
    rendered = render(PROFILES["engines outside"])
    data = rendered.one("ConfigMap", "groundswell-config")["data"]
    assert data["KAFKA_BOOTSTRAP_SERVERS"] == "kafka.example:9092"
    assert not [each for each in rendered.objects if set(each["metadata"]["name"].split("-")) & set(ENGINE_OF.values())]
    links = rendered.environment(rendered.processes()["links"])
    assert (links["REDIS_URL"], links["POSTGRES_DSN"]) == ("valkey/url", "postgres/dsn")
    assert (links["POSTGRES_REPLICA_DSN"], links["POSTGRES_POOL_DSN"]) == ("postgres/replicas", "postgres/pool")
    inside_alone = render({}).environment(render({}).processes()["links"])
    assert not {"POSTGRES_REPLICA_DSN", "POSTGRES_POOL_DSN"} & set(inside_alone)
    assert "POSTGRES_POOL_DSN" not in rendered.environment(rendered.processes()["gateway"])
    assert "REDIS_URL" not in data
    inside = render({}).one("ConfigMap", "groundswell-config")["data"]
    loaded = settings.load(EngineSettings, inside)
    assert loaded.kafka_bootstrap_servers == "groundswell-kafka.groundswell.svc.cluster.local:9092"
    assert loaded.redis_url == "redis://groundswell-valkey.groundswell.svc.cluster.local:6379"


def test_a_process_of_many_is_known_by_its_pod_and_by_its_kind() -> None:
    for process, workload in render({}).processes().items():
        environment = render({}).environment(workload)
        assert (environment["GROUNDSWELL_PROCESS"], environment["GROUNDSWELL_INSTANCE"]) == (process, "metadata.name")


def test_preparation_is_told_its_engines_by_itself_and_no_more() -> None:
    """A hook runs before the ConfigMap is brought up to date, so it must not read it."""
    for name in ("as it stands", "engines outside"):
        job = render(PROFILES[name], upgrade=True).preparation()
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert "envFrom" not in container
        assert {each["name"] for each in container["env"]} == {
            "KAFKA_BOOTSTRAP_SERVERS",
            "POSTGRES_DSN",
            "GROUNDSWELL_INTERNAL_KEY",
        }


def _of_a_laptop(default: object) -> bool:
    texts = default if isinstance(default, tuple) else (default,)
    return default in ("", ()) or any(isinstance(each, str) and any(word in each for word in LAPTOP) for each in texts)


def _modules(rendered: Rendered, process: str) -> list[str]:
    (container,) = rendered.processes()[process]["spec"]["template"]["spec"]["containers"]
    return list(container["args"][1:])
