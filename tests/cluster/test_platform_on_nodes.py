"""The whole platform as the chart installs it, on process nodes of the real control plane, under load while its pods come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.cluster.conftest import RESTRICTED
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.dockerfile import Image
from tests.cluster.engines import Engines
from tests.cluster.process_nodes import handle
from tests.cluster.process_nodes.images import FolderImage
from tests.cluster.release import Release, pid_of
from tests.cluster.visitors import Visits, load

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMESPACE = "groundswell"
RATE = 100.0

Loaded = Callable[[], AbstractAsyncContextManager[Visits]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def release(
    process_plane: ControlPlane, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Release]:
    """The chart, installed on three process nodes."""
    folder, engines = tmp_path_factory.mktemp("nodes"), Engines(tmp_path_factory.mktemp("engines"))
    named = {"groundswell:0.1.0": FolderImage(image.command(), image.environment(), str(image.workdir))}
    with handle.running(process_plane, folder, named, nodes=3, name="platform") as nodes:
        async with process_plane.admin() as admin:
            try:
                await engines.start()
                metadata = {"name": NAMESPACE, "labels": RESTRICTED}
                await admin.create("/api/v1/namespaces", {"metadata": metadata})
                await until(lambda: admin.items(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"))
                made = Release(process_plane, nodes, admin, NAMESPACE, folder)
                await made.install(engines.addresses())
                yield made
            finally:
                Path("/tmp/nodes-x/logs").write_text(nodes.logs(60))
                await engines.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def loaded(release: Release, tmp_path: Path) -> Loaded:
    """Starts a load on the release."""

    @asynccontextmanager
    async def during() -> AsyncIterator[Visits]:
        refused = len(release.nodes.refusals())
        async with load(await release.url(), await release.key("platform-key"), tmp_path, RATE) as visits:
            yield visits
        print(visits.promised, visits.off_shares, visits.calls.count, visits.calls.slowest, visits.failed, visits.wrong)
        assert not visits.wrong
        assert not await visits.calls.lost()
        visits.refused = release.nodes.refusals()[refused:]

    return during


async def test_an_upgrade_under_load_fails_no_request_and_loses_no_acknowledged_work(
    release: Release, loaded: Loaded
) -> None:
    """Goal: every pod of every process is replaced. Method: a setting that all are told is changed, which each must be started for."""
    before = {pod["metadata"]["uid"] for pod in await release.pods()}
    async with loaded() as visits:
        await release.upgrade("--set", "settings.LINKS_CODE_SECRET=changed")
    assert not {pod["metadata"]["uid"] for pod in await release.pods()} & before
    assert visits.promised.total
    assert not visits.failed + visits.refused


async def test_a_process_is_scaled_up_and_down_under_load_and_fails_no_request(
    release: Release, loaded: Loaded
) -> None:
    async with loaded() as visits:
        for replicas in (3, 2):
            for process in ("links", "gateway"):
                await release.scale(process, replicas)
            for process in ("links", "gateway"):
                await release.until_ready(process, replicas)
    assert not visits.failed + visits.refused


async def test_a_node_is_drained_under_load_and_no_request_fails(release: Release, loaded: Loaded) -> None:
    node = "platform-0"
    async with loaded() as visits:
        await asyncio.to_thread(
            release.plane.kubectl, "drain", node, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=110s"
        )
        assert node not in {pod["spec"]["nodeName"] for pod in await release.pods()}
        await release.until_all_ready()
    await asyncio.to_thread(release.plane.kubectl, "uncordon", node)
    assert not visits.failed + visits.refused


async def test_killed_processes_are_back_in_their_pods_and_lose_nothing_that_was_acknowledged(
    release: Release, loaded: Loaded
) -> None:
    victims = [(await release.pods(process))[0] for process in ("gateway", "analytics", "writer", "links")]
    async with loaded():
        for pod in victims:
            psutil.Process(pid_of(pod)).kill()
        for pod in victims:
            await release.until_restarted(pod)
        await release.until_all_ready()
