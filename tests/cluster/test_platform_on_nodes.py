"""The whole platform as the chart installs it, on process nodes of the real control plane, under load while its pods come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.conftest import RESTRICTED
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.dockerfile import Image
from tests.cluster.engines import Engines
from tests.cluster.process_nodes import handle
from tests.cluster.process_nodes.images import FolderImage
from tests.cluster.release import Release
from tests.cluster.visitors import load

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMESPACE = "groundswell"
RATE = 100.0


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


async def test_an_upgrade_under_load_fails_no_request_and_loses_no_acknowledged_work(
    release: Release, tmp_path: Path
) -> None:
    before = {pod["metadata"]["uid"] for pod in await release.pods()}
    async with load(
        await release.url(), await release.key("platform-key"), tmp_path, rate=RATE, seconds_max=50
    ) as visits:
        await asyncio.sleep(3)
        await release.upgrade("--set", "settings.LINKS_CODE_SECRET=changed")
        print("UP")
    print(
        visits.outcomes,
        visits.failed,
        visits.wrong,
        visits.off_share,
        visits.calls.count,
        len(visits.calls.made),
        release.nodes.refusals(),
    )
    assert not {pod["metadata"]["uid"] for pod in await release.pods()} & before
    assert not visits.failed
    assert not visits.wrong
    assert not await visits.calls.lost()
    assert not release.nodes.refusals()
