"""CONTRIBUTING's recipe "add a service", followed to the letter: the service `bookmarks` beside this file.

It is laid into a copy of the sources, its protos are generated, lines are added to `main`, the topology, the chart's values and its
objectives, and then it must keep every import contract, migrate its database, start, answer a call once however often it is sent, publish
its event in the topic that it describes, have its objects and alerts in a cluster, and its promise on its page.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import helm_python
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from groundswell.engines import ports, topics, topology
from groundswell.kernel.context import Context
from groundswell.kernel.rpc import wire
from tests.cluster.chart import parsed

from .test_contracts import copied, lint

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).parent / "bookmarks"
KEY = b"k" * 32
VALUES = """  bookmarks:
    replicas: {min: 2, max: 6}
    requests: {cpu: 50m, memory: 192Mi}
    limits: {cpu: "1", memory: 384Mi}
"""
TOPIC = "bookmarks.events.v1"
TOPICS = ["tenancy.events.v1", "identity.revocations.v1", TOPIC]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the sources with the new service in it."""
    copied(tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(
        TEMPLATE,
        tmp_path / "services" / "groundswell" / "bookmarks",
        ignore=shutil.ignore_patterns("*.proto", "*.yaml", "*.md", "promised.py", "__pycache__"),
    )
    protos = tmp_path / "protos" / "groundswell" / "api" / "bookmarks" / "v1"
    protos.mkdir(parents=True)
    for proto in TEMPLATE.glob("*.proto"):
        shutil.copy(proto, protos)
    shutil.copy(TEMPLATE / f"{TOPIC}.yaml", tmp_path / "protos" / "topics")
    subprocess.run([sys.executable, "protos/generate.py"], cwd=tmp_path, check=True)
    edit(
        tmp_path / "services" / "groundswell" / "main.py",
        '    "tenancy":',
        '    "bookmarks": "groundswell.bookmarks.module:bookmarks",\n    "tenancy":',
    )
    placement = tmp_path / "services" / "groundswell" / "engines" / "topology.yaml"
    edit(placement, "\nmodules:\n", "\nmodules:\n  bookmarks: {uses: [kafka, postgres], calls: [identity]}\n")
    edit(placement, "\n    all: [", "\n    all: [bookmarks, ")
    edit(placement, "\n  each:\n", "\n  each:\n    bookmarks: [bookmarks]\n")
    shutil.copytree(ROOT / "charts", tmp_path / "charts", symlinks=True)
    edit(tmp_path / "charts" / "groundswell" / "values.yaml", "\nprocesses:\n", f"\nprocesses:\n{VALUES}")
    edit(
        tmp_path / "charts" / "observability" / "objectives.py",
        '    *_grpc("links", ',
        '    *_grpc("bookmarks", "bookmarks.v1.BookmarkService"),\n    *_grpc("links", ',
    )
    (tmp_path / ".importlinter").write_text(
        (ROOT / ".importlinter")
        .read_text()
        .replace("    groundswell.gateway\n", "    groundswell.bookmarks\n    groundswell.gateway\n")
    )
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.fixture
async def address(project: Path, postgres_dsn: str, kafka_address: str, redis_url: str) -> "Iterator[str]":  # type: ignore[misc]
    """The running service."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_address)
    await admin.start()
    described = topics.described(project / "protos" / "topics")
    present = await admin.list_topics()
    await admin.create_topics([each for each in described if each.name in set(TOPICS) - set(present)])
    await admin.close()
    rpc, ops = (f"127.0.0.1:{port}" for port in ports.draw(2))
    environment = os.environ | {
        "PYTHONPATH": str(project / "services"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "REDIS_URL": redis_url,
        "GROUNDSWELL_INTERNAL_KEY": KEY.hex(),
        "GROUNDSWELL_ENDPOINTS": f"bookmarks={rpc},identity={rpc}",
        "GROUNDSWELL_RPC_ADDRESS": rpc,
        "GROUNDSWELL_OPS_ADDRESS": ops,
        "GROUNDSWELL_DATA": str(project / "data"),
    }
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'services'); from groundswell.main import run; sys.exit(run(['bookmarks']))",
    ]
    process = subprocess.Popen(command, cwd=project, env=environment)  # noqa: ASYNC220  # nothing else runs yet
    try:
        wait_ready(process, f"http://{ops}/readyz")
        yield rpc
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def wait_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service died while it started"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)  # between two probes of a process that is starting
    raise AssertionError("the service did not become ready")


def test_the_new_service_keeps_every_contract(project: Path) -> None:
    done = lint(project)
    assert done.returncode == 0, done.stdout


def test_a_cluster_runs_the_new_service(project: Path) -> None:
    """Its line in topology.yaml and its values are all that the chart needs, and what `prepare` needs."""
    with helm_python.Chart.load(project / "charts" / "groundswell") as chart:
        rendered = parsed(chart.render({}, name="groundswell", namespace="groundswell", is_install=True))
    kinds = {each["kind"] for each in rendered.objects if each["metadata"]["name"] == "groundswell-bookmarks"}
    assert {"Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"} <= kinds
    workload = rendered.processes()["bookmarks"]
    assert rendered.environment(workload)["POSTGRES_DSN"] == "groundswell-engines/postgres-dsn"
    placement = topology.load("each", project / "services" / "groundswell" / "engines" / "topology.yaml")
    assert "bookmarks" in placement.databases


def test_the_new_topic_is_what_the_code_publishes_and_a_file_that_says_otherwise_is_found(project: Path) -> None:
    (project / "tests" / "architecture").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "test_topics.py", project / "tests" / "architecture")
    checks = ["-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "tests/architecture/test_topics.py"]
    done = python(project, *checks)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(TOPIC) == 0, "the control: what fails is told by the topic's name"
    edit(project / "protos" / "topics" / f"{TOPIC}.yaml", "consumers: []", "consumers: [links]")
    done = python(project, *checks, "-k", "consumers")
    assert f"test_a_topics_consumers_are_who_reads_it[{TOPIC}]" in done.stdout


def test_what_the_new_service_promises_is_watched_by_the_charts_rules(project: Path) -> None:
    """Availability and latency, by the line among the objectives; before `make observability` the check says what is stale."""
    assert "rules/objectives.yaml" in python(project, "-m", "charts.observability", "--check").stderr
    assert python(project, "-m", "charts.observability").returncode == 0
    assert python(project, "-m", "charts.observability", "--check").returncode == 0
    rules = (project / "charts" / "groundswell" / "rules" / "objectives.yaml").read_text()
    assert all(f"service: bookmarks\n      slo: {slo}\n" in rules for slo in ("availability", "latency")), rules


def test_what_the_new_page_promises_is_joined_with_the_test_that_proves_it(project: Path) -> None:
    shutil.rmtree(project / "loadtests")  # its drills prove promises of other pages
    for file, place in ((TEMPLATE / "bookmarks.md", "docs/systems"), (ROOT / "docs" / "promises.py", "docs")):
        (project / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, project / place)
    done = python(project, "docs/promises.py")
    assert (done.returncode, "no test or drill proves it" in done.stdout) == (1, True), "the control: the page alone"
    (project / "tests" / "bookmarks").mkdir(parents=True)
    shutil.copy(TEMPLATE / "promised.py", project / "tests" / "bookmarks" / "test_model.py")
    done = python(project, "docs/promises.py")
    assert done.returncode == 0, done.stdout
    assert (
        "| BOOKMARKS-1 | [a note that is too long is refused](../../tests/bookmarks/test_model.py)"
        in (project / "docs" / "systems" / "bookmarks.md").read_text()
    )
    done = python(project, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "tests/bookmarks")
    assert "1 passed" in done.stdout, done.stdout


def python(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What a command says that is run in the copy, by the copy's own sources."""
    path = os.pathsep.join(str(project / each) for each in ("services", "operators", "."))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_new_service_runs_answers_once_and_publishes(address: str, kafka_address: str) -> None:
    context = Context(tenant=7, actor="apiKeys/1", permissions=frozenset({"bookmarks.*"}))
    metadata = ((wire.CONTEXT, wire.encode(context, KEY)),)
    # A CreateBookmarkRequest by its field numbers: the test's own process does not know the new messages.
    request = b"\x0a\x09\x12\x07read me" + b"\x12\x02r1"
    async with grpc.aio.insecure_channel(address) as channel:
        create: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/groundswell.api.bookmarks.v1.BookmarkService/CreateBookmark"
        )
        first = await create(request, metadata=metadata, timeout=10)
        again = await create(request, metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(request, timeout=10)
    assert first == again
    assert b"read me" in first
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=kafka_address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        records = (await consumer.getmany(timeout_ms=5_000)).values()
        types = [dict(record.headers)["ce_type"] for batch in records for record in batch]
    finally:
        await consumer.stop()
    assert types == [b"groundswell.api.bookmarks.v1.BookmarkCreated"]
