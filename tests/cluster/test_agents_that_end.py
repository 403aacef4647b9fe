"""The end of an agent of process nodes: it leaves neither processes nor nodes behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.control_plane.api import Api, Refused
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.forms import slow
from tests.cluster.process_nodes import images
from tests.cluster.process_nodes.handle import running
from tests.cluster.tiny import WAITING, Place

pytestmark = pytest.mark.alone


@pytest.fixture
async def admin(process_plane: ControlPlane) -> AsyncIterator[Api]:
    async with process_plane.admin() as api:
        yield api


@slow
async def test_no_process_outlives_the_agent_however_it_dies(
    process_plane: ControlPlane, admin: Api, namespace: str, tmp_path: Path
) -> None:
    with running(process_plane, tmp_path, {"python": images.python()}, nodes=1, name="doomed") as agent:
        there = Place(admin, namespace, tmp_path)
        spec = there.spec(WAITING) | {"affinity": {}, "nodeSelector": {"kubernetes.io/hostname": "doomed-0"}}
        await there.start("web", spec)
        await there.told("begin")
        (child,) = psutil.Process(agent.pid).children()
        psutil.Process(agent.pid).kill()
        await asyncio.to_thread(child.wait, 10)
    await admin.delete("/api/v1/nodes/doomed-0")


async def test_an_agent_that_ends_takes_its_nodes_with_it(
    process_plane: ControlPlane, admin: Api, namespace: str, tmp_path: Path
) -> None:
    """Or a scheduler would go on choosing them for pods that nobody runs."""
    with running(process_plane, tmp_path, {"python": images.python()}, nodes=1, name="leaving"):
        there = Place(admin, namespace, tmp_path)
        spec = there.spec(WAITING) | {"affinity": {}, "nodeSelector": {"kubernetes.io/hostname": "leaving-0"}}
        await there.start("web", spec)
        await there.told("begin")
    with pytest.raises(Refused, match="404"):
        await admin.get("/api/v1/nodes/leaving-0")
