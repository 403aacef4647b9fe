"""The whole platform as the chart installs it, on process nodes of the real control plane, under load while its pods come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from charts import releasing
from tests.cluster.chart import BEFORE, FEW_VISITORS, LOADTESTS, PLACEMENTS, RELEASE, VERSION
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.dockerfile import Image
from tests.cluster.engines import Engines
from tests.cluster.forms import slow
from tests.cluster.operating import QUICK, RESTRICTED, Operated, scales
from tests.cluster.process_nodes import handle
from tests.cluster.process_nodes.images import FolderImage
from tests.cluster.release import Release, pid_of
from tests.cluster.visitors import Visits, load

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.alone]

NAMESPACE = "groundswell"
NODE = "platform"
RATE = 100.0
"""Visits a second."""
RESTARTS_MAX = 5
VERDICT_S_MAX = 180.0

Loaded = Callable[[], AbstractAsyncContextManager[Visits]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before(
    process_plane: ControlPlane, image: Image, loadtests_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Release]:
    """The chart of the version before, installed on three process nodes."""
    folder, engines = tmp_path_factory.mktemp("nodes"), Engines(tmp_path_factory.mktemp("engines"))
    program = in_folder(image, GROUNDSWELL_HEALTH_BIND="$(POD_IP)")
    named = {f"groundswell:{version}": program for version in (BEFORE, VERSION)}
    named[f"groundswell-loadtests:{VERSION}"] = in_folder(loadtests_image)
    with handle.running(process_plane, folder, named, nodes=3, name=NODE) as nodes:
        async with process_plane.admin() as admin:
            try:
                await engines.start()
                metadata = {"name": NAMESPACE, "labels": RESTRICTED}
                await admin.create("/api/v1/namespaces", {"metadata": metadata})
                await until(lambda: admin.items(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"))
                made = Release(process_plane, nodes, admin, NAMESPACE, folder)
                await made.install(engines.addresses(), releasing.archive(BEFORE))
                yield made
            finally:
                await engines.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def release(before: Release) -> Release:
    """That release, brought to this version unless it is there already."""
    if {pod["spec"]["containers"][0]["image"] for pod in await before.pods()} != {f"groundswell:{VERSION}"}:
        await before.upgrade()
    await before.until_all_ready()
    return before


def in_folder(image: Image, **further: str) -> FolderImage:
    """An image as process nodes start it, with these variables besides its own."""
    return FolderImage(image.command(), {**image.environment(), **further}, str(image.workdir))


@pytest_asyncio.fixture(loop_scope="module")
async def loaded(before: Release, tmp_path: Path) -> Loaded:
    """Starts a load on the release; when it is over, every book is right and nothing that was acknowledged is lost."""

    @asynccontextmanager
    async def during() -> AsyncIterator[Visits]:
        refused = len(before.nodes.refusals())
        async with load(await before.url(), await before.key("platform-key"), tmp_path, RATE) as visits:
            yield visits
        visits.refused = before.nodes.refusals()[refused:]
        assert visits.promised.total
        assert not visits.wrong, before.nodes.logs()
        lost = await visits.calls.lost()
        assert not lost, f"{lost}\n{before.nodes.logs()}"

    return during


def assert_none_failed(release: Release, visits: Visits) -> None:
    """The control is below: `test_pods_that_are_killed_instead_of_drained_fail_requests`."""
    assert not visits.failed + visits.refused, release.nodes.logs()


@pytest.mark.promise("OPERATOR-13")
@slow
async def test_an_install_brings_up_the_whole_platform_and_an_upgrade_under_load_fails_no_request_and_loses_no_work(
    before: Release, loaded: Loaded
) -> None:
    """Goal: every pod of every process is replaced. Method: the chart of the version before, as it was released; its image and this
    version's are the same program."""
    assert {pod["spec"]["containers"][0]["name"] for pod in await before.pods()} >= {*PLACEMENTS["each"]}
    await before.helm("test", RELEASE, "--timeout", "60s")
    first = {pod["metadata"]["uid"] for pod in await before.pods()}
    async with loaded() as visits:
        await before.upgrade()
    after = await before.pods()
    assert not {pod["metadata"]["uid"] for pod in after} & first
    assert {pod["spec"]["containers"][0]["image"] for pod in after} == {f"groundswell:{VERSION}"}
    assert_none_failed(before, visits)


@pytest.mark.parametrize(("domain", "verdict"), [("localhost", "Complete"), ("elsewhere.example", "Failed")])
@slow
async def test_the_verdict_of_visitors_from_inside_is_how_their_job_ends(
    release: Release, domain: str, verdict: str
) -> None:
    """The second is the control: to a domain that is not its own the door makes no links."""
    door = f"door.url={await release.url()},door.domain={domain}"
    few = f"load={json.dumps(FEW_VISITORS)}"
    await release.helm("install", LOADTESTS.name, str(LOADTESTS), "--set", door, "--set-json", few)

    async def ended() -> str:
        job = await release.admin.get(release.path("batch/v1", "jobs", "loadtests-1"))
        conditions = {each["type"] for each in job["status"].get("conditions", []) if each["status"] == "True"}
        return next(iter(conditions & {"Complete", "Failed"}), "")

    try:
        assert await until(ended, VERDICT_S_MAX) == verdict, release.nodes.logs()
    finally:
        await release.helm("uninstall", LOADTESTS.name, "--cascade", "foreground", "--wait", "--timeout", "60s")


@slow
async def test_killed_processes_are_back_in_their_pods_and_nothing_that_was_acknowledged_is_lost(
    release: Release, loaded: Loaded
) -> None:
    victims = [(await release.pods(process))[0] for process in ("gateway", "analytics", "writer", "links")]
    async with loaded():
        for pod in victims:
            psutil.Process(pid_of(pod)).kill()
        for pod in victims:
            await release.until_restarted(pod)
        await release.until_all_ready()


@slow
async def test_processes_are_scaled_up_and_down_under_load_and_no_request_fails(
    release: Release, loaded: Loaded
) -> None:
    async with loaded() as visits:
        for replicas in (3, 2):
            for process in ("links", "gateway"):
                await release.scale(process, replicas)
            for process in ("links", "gateway"):
                await release.until_ready(process, replicas)
    assert_none_failed(release, visits)


@slow
async def test_the_operator_scales_real_processes_ahead_of_a_spike_and_back_under_load_and_no_request_fails(
    release: Release, loaded: Loaded
) -> None:
    """Goal: what is raised serves, and what goes again misses nobody. Method: the chart's own operator, a spike made by hand."""
    place = Operated(release.plane, release.admin, NAMESPACE, release.folder, {})
    policy = await place.policy(actions=[scales(f"{RELEASE}-links", 2)], cooldown=QUICK)
    async with loaded() as visits:
        spike = await place.spike("viral", policy)
        await release.until_ready("links", 4)
        await release.admin.delete(spike)
        await until(lambda: place.gone(spike))
        assert (await place.bounds(f"{RELEASE}-links"))[0] == 2
        await release.scale("links", 2)  # as its autoscaler would, if there were metrics
        await release.until_ready("links", 2)
    assert_none_failed(release, visits)


@slow
async def test_a_node_is_drained_under_load_and_no_request_fails(release: Release, loaded: Loaded) -> None:
    """Method: kubectl evicts its pods, which budgets let go one by one."""
    node = f"{NODE}-0"
    async with loaded() as visits:
        words = ("drain", node, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=110s")
        await asyncio.to_thread(release.plane.kubectl, *words)
        await release.until_all_ready()
        assert node not in {pod["spec"]["nodeName"] for pod in await release.pods()}
    await asyncio.to_thread(release.plane.kubectl, "uncordon", node)
    assert_none_failed(release, visits)


@slow
async def test_an_install_upon_what_an_uninstall_kept_serves_it_and_counts_exactly(
    release: Release, loaded: Loaded
) -> None:
    key = await release.key("api-key")
    await release.install_anew()
    assert await release.key("api-key") == key
    async with loaded() as visits:
        await release.restart("links")
    assert_none_failed(release, visits)


@slow
async def test_pods_that_are_killed_instead_of_drained_fail_requests(release: Release, loaded: Loaded) -> None:
    """The control of all above, and the last to use the release: without the pause and the grace of the chart, the same load sees it."""
    path = release.path("apps/v1", "statefulsets", f"{RELEASE}-gateway")
    hasty = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "gateway", "lifecycle": None}]}
    await release.admin.patch(path, {"spec": {"template": {"spec": hasty}}}, "strategic")
    await release.until_rolled("gateway")
    async with loaded() as visits:
        for _ in range(RESTARTS_MAX):  # a kill may fall into a moment in which nothing is under way
            await release.restart("gateway")
            if visits.calls.failures:
                break
    assert visits.failed
