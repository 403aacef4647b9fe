"""The real engines, for every test that asks: each starts once a session, when its first test wants it, and ends with the session.

An address in the environment (`KAFKA_BOOTSTRAP_SERVERS`, `POSTGRES_DSN`, `REDIS_URL`) replaces the engine that it names. Sessions that
stand beside each other (`python -m tests`) have their own engines, and their own ports to draw from.
"""

import asyncio
import gc
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundswell.engines import ports, running
from groundswell.engines.engine import Engine, Folders, given
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.engines.valkey import Valkey
from tests import FOLDERS
from tests.replica import Replica
from tests.skipped import NO_CHROMIUM, NO_PGBOUNCER, name_skipped

# Else gRPC starts a thread in each engine that a test forks, whose files are closed before exec, and now and then aborts it.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


@pytest.fixture(scope="session")
def engines_home() -> Iterator[Path]:
    """A folder for the session's engines, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-tests-", dir=os.environ.get(FOLDERS)))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _address(home: Path, make: Callable[[Folders], Engine], name: str) -> Iterator[str]:
    engine = make(Folders.under(home, name))
    if given(os.environ, engine):
        yield os.environ[engine.variable]
        return
    engine.prepare(print)
    child = asyncio.run(running.start(engine))
    assert child is not None
    try:
        yield engine.address
    finally:
        asyncio.run(child.stop())


@pytest.fixture(scope="session")
def kafka_address(engines_home: Path) -> Iterator[str]:
    """`host:port` of a broker."""
    with _address(engines_home, lambda folders: Kafka(folders, *ports.draw(2)), "kafka") as address:
        yield address


@pytest.fixture(scope="session")
def redis_url(engines_home: Path) -> Iterator[str]:
    """A Valkey that owns all slots."""
    with _address(engines_home, lambda folders: Valkey(folders, *ports.draw(2)), "valkey") as address:
        yield address


@pytest.fixture(scope="session")
def postgres_dsn(engines_home: Path) -> Iterator[str]:
    """A server on which the user may create databases and roles."""
    with _address(engines_home, lambda folders: Postgres(folders, *ports.draw(1)), "postgres") as address:
        yield address


@pytest.fixture(scope="session")
def postgres_replica_dsn(engines_home: Path, postgres_dsn: str) -> Iterator[str]:
    """A streaming replica of that server."""
    with _address(
        engines_home, lambda folders: Replica(folders, ports.draw(1)[0], postgres_dsn), Replica.name
    ) as address:
        yield address


@pytest.fixture
def clickhouse_dsn(tmp_path: Path) -> str:
    """An empty ClickHouse folder, which one process at a time may open."""
    return f"chdb://{tmp_path / 'clickhouse'}"


PLANE = "programs"
"""Who asks for these programs starts a control plane."""


def pytest_configure(config: pytest.Config) -> None:
    """A session beside others has a share of the ports; the one that hears of all tests keeps their results."""
    if worker := getattr(config, "workerinput", None):
        (lowest, highest), count = ports.span(os.environ), worker["workercount"]
        share = (highest - lowest + 1) // count
        first = (
            lowest + int(worker["workerid"].removeprefix("gw")) % count * share
        )  # one that replaces a dead one is counted on
        os.environ[ports.VARIABLE] = f"{first}-{first + share - 1}"
    else:
        config.pluginmanager.register(Results(config.rootpath / ".proof" / "results.json"))


def pytest_collection(session: pytest.Session) -> None:
    """What is collected stays: the garbage collector, which would walk it again and again, took a third of the time."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    name_skipped(terminalreporter, NO_CHROMIUM, NO_PGBOUNCER)


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test with a control plane stands beside others that have one each."""
    if PLANE in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.plane)


class Results:
    """How tests that prove a promise ended, kept in `file` as each ends: a session that is cut short has proven what it came to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ended: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "promise" not in report.keywords:
            return
        proof = report.nodeid.partition("[")[0]
        if report.when == "call" or report.outcome != "passed":
            self._ended.setdefault(proof, set()).add(report.outcome)
        if report.when == "teardown" and proof in self._ended:
            self._keep(proof, self._ended[proof])

    def _keep(self, proof: str, outcomes: set[str]) -> None:
        """Puts a result among those of earlier sessions, for `make promises`: a test that fails in any of its cases has failed, and one of
        which a case was skipped has no newer result than that of the session in which none was."""
        known = json.loads(self._file.read_text()) if self._file.exists() else {}
        worst = next(each for each in ("failed", "skipped", "passed") if each in outcomes)
        if worst == "skipped" and proof in known:
            return
        known[proof] = f"{worst}, {time.strftime('%Y-%m-%d', time.gmtime())}"
        self._file.parent.mkdir(exist_ok=True)
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        draft.replace(self._file)
