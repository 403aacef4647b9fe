"""The cluster of the tests here: one image and one control plane for all that ask, and a namespace for each. It ends with the last of them.

The control plane's programs are built by `make cluster-tools`. Where they are not, tests that need them are skipped, and the end of the
session names them and says what to run.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from groundswell.engines import topics
from tests import SHARED
from tests.cluster import bridging, dockerfile
from tests.cluster.control_plane.api import Api
from tests.cluster.control_plane.handle import ROOT, ControlPlane, running
from tests.cluster.forms import SLOW
from tests.cluster.operating import Operated, install_kinds, operated, own_namespace
from tests.cluster.tools.families import MONITORING, Shelf, shelf
from tests.skipped import name_skipped

UNBUILT = "the cluster's programs are not built: run `make cluster-tools`"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> dockerfile.Image:
    """The image, in a folder."""
    return _built(tmp_path_factory, "runtime")


@pytest.fixture(scope="session")
def loadtests_image(tmp_path_factory: pytest.TempPathFactory) -> dockerfile.Image:
    """The image of the load tests, in a folder of its own."""
    return _built(tmp_path_factory, "loadtests")


def _built(folders: pytest.TempPathFactory, target: str) -> dockerfile.Image:
    """The image of a target; of sessions that stand beside each other, or come one after the other, the first makes it for all."""
    root = Path(os.environ.get(SHARED) or _of_sessions(folders)) / target
    made = root.with_suffix(".made")
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(root, ignore_errors=True)  # of one that failed
            root.mkdir()
            dockerfile.build(root, target)
            made.touch()
    return dockerfile.Image(root, dockerfile.STAGES[target])


def _of_sessions(folders: pytest.TempPathFactory) -> Path:
    """The folder that sessions beside each other share, or this one's own."""
    return folders.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else folders.getbasetemp()


@pytest.fixture(scope="session")
def programs() -> Shelf:
    """The cluster's programs; skips where one is not built."""
    place = shelf()
    if place.missing():
        pytest.skip(UNBUILT)
    return place


@pytest.fixture(scope="session")
def monitoring() -> Shelf:
    """promtool and Prometheus; skips where one is not built."""
    place = shelf(MONITORING)
    if place.missing():
        pytest.skip(UNBUILT)
    return place


@pytest.fixture(scope="package")
def control_plane(programs: Shelf) -> Iterator[ControlPlane]:
    """A running control plane."""
    with running() as plane:
        yield plane


@pytest.fixture(scope="package")
def process_plane(programs: Shelf) -> Iterator[ControlPlane]:
    """A running control plane without simulated nodes: whatever pod is made there runs on process nodes."""
    with running("--nodes=0") as plane:
        yield plane


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """Requests of who may do everything."""
    async with control_plane.admin() as api:
        yield api


@pytest.fixture
async def namespace(admin: Api) -> AsyncIterator[str]:
    """A namespace of one's own that holds pods to the Restricted standard; its objects go with it."""
    async with own_namespace(admin) as name:
        yield name


@pytest.fixture(scope="package")
def kinds(control_plane: ControlPlane) -> None:
    """The operator's two kinds, served."""
    install_kinds(control_plane)


@pytest.fixture
async def place(
    control_plane: ControlPlane, admin: Api, namespace: str, kinds: None, tmp_path: Path
) -> AsyncIterator[Operated]:
    """A namespace in which operators run under their own account."""
    async with operated(control_plane, admin, namespace, tmp_path) as made:
        yield made


@pytest.fixture
async def log(place: Operated, kafka_address: str) -> AsyncIterator[str]:
    """The address of a broker that has the platform's topics. Bridges that read it leave their group with the test."""
    await topics.create(kafka_address, ROOT / "protos" / "topics")
    yield kafka_address
    await asyncio.to_thread(bridging.end, place)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first file whose tests want the image begins, since that takes a minute to build; the others come last, and find it there."""
    wanting = [*dict.fromkeys(each.path for each in items if "image" in getattr(each, "fixturenames", ()))]
    items.sort(key=lambda each: (each.path in wanting) - 2 * (each.path in wanting[:1]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    name_skipped(terminalreporter, UNBUILT, SLOW)
