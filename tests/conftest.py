"""The real engines, for every test that asks: each starts once a session, when its first test wants it, and ends with the session.

An address in the environment (`KAFKA_BOOTSTRAP_SERVERS`, `POSTGRES_DSN`, `REDIS_URL`) replaces the engine that it names.
"""

import asyncio
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
from tests.replica import Replica

# Else gRPC starts a thread in each engine that a test forks, whose files are closed before exec, and now and then aborts it.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


@pytest.fixture(scope="session")
def engines_home() -> Iterator[Path]:
    """A folder for the session's engines, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-tests-"))
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


_PROOFS = Path(__file__).parent.parent / ".proof" / "results.json"
_ended: dict[str, set[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps how tests that prove a promise ended, each as it ends: a session that is cut short has proven what it came to."""
    if "promise" not in report.keywords:
        return
    proof = report.nodeid.partition("[")[0]
    if report.when == "call" or report.outcome != "passed":
        _ended.setdefault(proof, set()).add(report.outcome)
    if report.when == "teardown" and proof in _ended:
        _keep(proof, _ended[proof])


def _keep(proof: str, outcomes: set[str]) -> None:
    """Puts a result among those of earlier sessions, for `make promises`: a test that fails in any of its cases has failed."""
    known = json.loads(_PROOFS.read_text()) if _PROOFS.exists() else {}
    worst = next(each for each in ("failed", "skipped", "passed") if each in outcomes)
    known[proof] = f"{worst}, {time.strftime('%Y-%m-%d', time.gmtime())}"
    _PROOFS.parent.mkdir(exist_ok=True)
    draft = _PROOFS.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    draft.replace(_PROOFS)
