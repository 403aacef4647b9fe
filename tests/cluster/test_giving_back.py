"""What an uninstall waits for: all that is raised is given back, or let go, within a bound, whatever the operator does.

The hook's account is there only while Helm runs the hook, so it is made here from the chart's rendering.
"""

from __future__ import annotations

import secrets
import time

import pytest

from groundswell_operator.applying.reading import FINALIZER
from groundswell_operator.releasing import END_S, Release
from tests.cluster.asking import asking_as
from tests.cluster.chart import render
from tests.cluster.control_plane.api import until
from tests.cluster.forms import slow
from tests.cluster.operating import BRIDGE, Operated, Process, grant, scales, spike

ACCOUNT = "groundswell-release"
RELEASE_S_MAX = 30.0


@pytest.fixture
async def leaving(place: Operated) -> Operated:
    """A namespace with a target, the bridge's Deployment, a policy and the hook's account."""
    await place.target("web", 3, scaler={"minReplicas": 3, "maxReplicas": 20})
    await place.target(BRIDGE, 1)
    await grant(place.admin, place.namespace, ACCOUNT, render({}).rights("release"))
    await place.admit(ACCOUNT)
    return place


def release(place: Operated) -> Process:
    """The hook's program, as its container starts it."""
    command = ("groundswell_operator", "release")
    return place.start("leaving", *command, account=ACCOUNT, environment={"GROUNDSWELL_BRIDGE": BRIDGE})


async def ends_well(process: Process) -> None:
    async def ended() -> bool:
        return process.popen.poll() is not None

    await until(ended, RELEASE_S_MAX)
    assert process.popen.returncode == 0, process.log.read_text()


async def bridges(place: Operated) -> int:
    """How many pods the bridge is to have."""
    return int((await place.admin.get(place.deployment(BRIDGE)))["spec"]["replicas"])


async def raised(place: Operated) -> str:
    """The path of a spike that holds what it raised."""
    path = await place.spike("vs-a", await place.policy(actions=[scales("web", 10)]))
    await place.comes_to(path, "Holding")
    return path


@pytest.mark.promise("OPERATOR-12")
async def test_a_release_stops_the_bridge_and_ends_once_the_operator_has_given_everything_back(
    leaving: Operated,
) -> None:
    await leaving.leads(leaving.start("one"))
    path = await raised(leaving)
    await ends_well(release(leaving))
    assert await leaving.gone(path)
    assert await leaving.bounds("web") == (3, 20)
    assert await bridges(leaving) == 0
    assert not leaving.refusals()


@slow
async def test_where_nothing_is_raised_and_no_bridge_runs_a_release_ends_at_once(leaving: Operated) -> None:
    await leaving.admin.delete(leaving.deployment(BRIDGE))
    await ends_well(release(leaving))
    assert not leaving.refusals()


@pytest.mark.promise("OPERATOR-12")
@slow
async def test_what_the_bridge_tells_of_while_it_ends_is_given_back_too(leaving: Operated) -> None:
    """A finalizer keeps the bridge's pod as long as the test wants."""
    (kept,) = await leaving.admin.items(leaving.path("v1", "pods"), labelSelector=f"app={BRIDGE}")
    path = leaving.path("v1", "pods", kept["metadata"]["name"])
    await leaving.admin.patch(path, {"metadata": {"finalizers": ["test.example/kept"]}})
    await leaving.leads(leaving.start("one"))
    policy, process = await leaving.policy(actions=[scales("web", 10)]), release(leaving)

    async def told_to_end() -> bool:
        return await bridges(leaving) == 0

    await until(told_to_end)
    for name in ("vs-a", "vs-b"):
        await leaving.admin.create(leaving.spikes, spike(name, policy))
        await until(lambda: leaving.gone(f"{leaving.spikes}/{name}"))  # noqa: B023  # it is awaited within the turn
    assert process.popen.poll() is None, "the bridge still runs"
    await leaving.admin.patch(path, {"metadata": {"finalizers": None}})
    await ends_well(process)


@pytest.mark.promise("OPERATOR-12")
@slow
async def test_a_spike_that_no_operator_is_left_for_is_let_go(leaving: Operated) -> None:
    process = leaving.start("one")
    await leaving.leads(process)
    path = await raised(leaving)
    process.kill()
    began = time.monotonic()
    assert await _released(leaving, unled_s=2)
    assert time.monotonic() - began >= 2, "the operator gets its time"
    assert await leaving.gone(path)
    assert (await leaving.bounds("web"))[0] == 30, "nobody could give it back"


@pytest.mark.promise("OPERATOR-12")
@slow
async def test_a_spike_that_is_not_given_back_in_time_is_let_go(leaving: Operated) -> None:
    await leaving.leads(leaving.start("one"))
    path = await raised(leaving)
    annotation = {"metadata": {"annotations": {"groundswell.dev/paused-scale-in": "true"}}}
    await leaving.admin.patch(leaving.deployment("web"), annotation)
    assert await _released(leaving, patience_s=2)
    assert await leaving.gone(path)


@slow
async def test_what_others_keep_a_spike_for_is_theirs(leaving: Operated) -> None:
    made = spike("vs-a", await leaving.policy(actions=[scales("web", 10)]))
    other = f"test.example/{secrets.token_hex(4)}"
    made["metadata"]["finalizers"] = [other, FINALIZER]
    await leaving.admin.create(leaving.spikes, made)
    assert await _released(leaving, unled_s=1)
    metadata = (await leaving.admin.get(f"{leaving.spikes}/vs-a"))["metadata"]
    assert metadata["finalizers"] == [other]
    await leaving.admin.patch(f"{leaving.spikes}/vs-a", {"metadata": {"finalizers": None}})


def test_a_release_ends_before_the_job_does_and_the_job_before_helm_gives_it_up() -> None:
    helm_s = 300
    job = render({}).one("Job", "groundswell-release")["spec"]
    assert END_S < job["activeDeadlineSeconds"] < helm_s


async def _released(place: Operated, patience_s: float = 20, unled_s: float = 20) -> bool:
    async with asking_as(place, ACCOUNT) as requests:
        return await Release(requests, place.namespace, BRIDGE, patience_s, RELEASE_S_MAX, unled_s).run()
