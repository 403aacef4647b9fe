"""The operator on a real control plane: what it writes, in which order, and what is left of it in the end."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time

import httpx
import pytest

from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ROOT, ProgramFailed
from tests.cluster.forms import slow
from tests.cluster.operating import QUICK, Operated, scales
from tests.cluster.raising import (
    each_died_after_a_step,
    led_with_targets,
    lives_until,
    looks_s,
    raised_once,
    with_targets,
)
from tests.cluster.tools.families import shelf


@pytest.mark.promise("OPERATOR-1", "OPERATOR-3", "OPERATOR-12")
async def test_a_spike_raises_readers_and_web_tells_each_transition_once_and_gives_all_back_when_deleted(
    place: Operated,
) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    path = await place.spike("vs-a", policy)
    status = await place.comes_to(path, "Holding")
    assert await place.ready("web", 30)
    assert await place.ready("readers", 20)
    raised_once(place, "readers", "web")
    assert {each["name"]: each["baseline"]["hpaMin"] for each in status["targets"]} == {"readers": 4, "web": 3}
    assert {each["type"] for each in status["conditions"] if each["status"] == "True"} >= {
        "Admitted",
        "Scaled",
        "CapacityReady",
    }
    events = await place.admin.items(place.path("v1", "events"), fieldSelector="involvedObject.name=vs-a")
    assert sorted(each["reason"] for each in events) == ["Admitted", "FloorRaised", "Ready"]
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert [await place.bounds(name) for name in ("readers", "web")] == [(4, 20), (3, 20)]
    assert not place.refusals()


@pytest.mark.promise("OPERATOR-11")
@slow
async def test_consumers_of_a_log_are_raised_to_their_partitions_only_and_the_policy_says_so(place: Operated) -> None:
    await place.readers_of_a_log("live", 2, partitions="12")
    await place.readers_of_a_log("writer", 2, partitions="20")
    await place.leads(place.start("one"))
    actions = [scales("live", 10, kind="StatefulSet"), scales("writer", 10, kind="StatefulSet")]
    policy = await place.policy(actions=actions)
    path = await place.spike("vs-a", policy)
    status = await place.comes_to(path, "Holding")
    assert {each["name"]: each["desired"] for each in status["targets"]} == {"live": 12, "writer": 20}
    assert await place.ready("live", 12, place.stateful_set("live"))
    assert await place.ready("writer", 20, place.stateful_set("writer"))
    admitted = next(each for each in status["conditions"] if each["type"] == "Admitted")
    assert admitted["message"] == "live 2 → 12, one for each partition that it reads; writer 2 → 20"
    reached = await place.says(f"{place.policies}/default", "PartitionsReached", "Capped")
    assert reached["message"] == "live gets 12 at most, one for each partition that it reads"
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert [await place.bounds(name) for name in ("live", "writer")] == [(2, 20), (2, 20)]
    assert not place.refusals()


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-10")
async def test_the_second_half_of_web_waits_until_the_readers_are_ready(place: Operated) -> None:
    await led_with_targets(place, reader_delay="4s")
    policy = await place.policy(actions=[scales("readers", 5, order=0), scales("web", 10, order=1)])
    path = await place.spike("vs-a", policy)
    await until(lambda: place.ready("web", 17))
    assert not await place.ready("readers", 20)
    await place.comes_to(path, "Holding")
    assert await place.ready("web", 30)


@pytest.mark.alone
@slow
@pytest.mark.promise("OPERATOR-10")
async def test_readers_that_need_twenty_seconds_keep_web_waiting_for_ten(place: Operated) -> None:
    await led_with_targets(place, reader_delay="20s")
    policy = await place.policy(actions=[scales("readers", 5, order=0), scales("web", 10, order=1)])
    path = await place.spike("vs-a", policy)
    await until(lambda: place.ready("web", 17))
    first_s = time.monotonic()
    await until(lambda: place.ready("web", 30))
    assert time.monotonic() - first_s > 5, "it has waited"
    assert not await place.ready("readers", 20), "but not for them"
    await place.comes_to(path, "Holding")


@pytest.mark.promise("OPERATOR-5")
async def test_an_operator_that_is_killed_after_every_single_step_makes_one_raise_and_one_return(
    place: Operated,
) -> None:
    await with_targets(place)
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    path = await place.spike("vs-a", policy)
    lives = await lives_until(place, path, "Holding")
    raised_once(place, "readers", "web")
    status = (await place.admin.get(path))["status"]
    assert {each["name"]: each["baseline"]["replicas"] for each in status["targets"]} == {"readers": 4, "web": 3}
    await place.admin.delete(path)
    lives += await lives_until(place, path, "")
    assert [await place.bounds(name) for name in ("readers", "web")] == [(4, 20), (3, 20)]
    assert sorted(place.foreign("life--")) == ["horizontalpodautoscalers/readers", "horizontalpodautoscalers/web"]
    each_died_after_a_step(place, lives)


@slow
@pytest.mark.promise("OPERATOR-5", "OPERATOR-8")
async def test_an_operator_that_is_killed_after_every_single_step_gives_back_in_steps_once_its_spike_is_over(
    place: Operated,
) -> None:
    """Nobody but the operator scales these: what lowers them is no autoscaler's patience."""
    await place.target("workers", 2)
    path = await place.spike("vs-a", await place.policy(actions=[scales("workers", 10)], cooldown=QUICK))
    lives = await lives_until(place, path, "Holding")
    await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
    lives += await lives_until(place, path, "Restored")
    replicas = [each["requestObject"]["spec"]["replicas"] for each in place.scalings()]
    assert replicas[0] == 20
    assert replicas == sorted(set(replicas), reverse=True), "raised once, and each step was made once"
    assert len(replicas) > 3, "in halves"
    assert replicas[-1] == 2
    each_died_after_a_step(place, lives)


@pytest.mark.promise("OPERATOR-12")
async def test_deleting_a_policy_gives_back_what_its_spikes_raised(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.admin.delete(f"{place.policies}/default")
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (3, 20)


async def test_a_namespace_that_is_deleted_with_its_operator_down_is_let_go_by_the_command_of_the_page(
    place: Operated,
) -> None:
    """Nobody is left to give back, and no rights to do it with: the namespace waits for its spike, as docs/deploy.md says, and for nothing
    else, until somebody lets go of that."""
    await led_with_targets(place)
    path = await place.spike("vs-a", await place.policy(actions=[scales("web", 10)]))
    await place.comes_to(path, "Holding")
    for each in place.processes:
        each.kill()
    namespace = f"/api/v1/namespaces/{place.namespace}"
    await place.admin.delete(namespace)

    async def waits() -> bool:
        told = (await place.admin.get(namespace))["status"]
        remaining = [
            each["message"] for each in told.get("conditions", []) if each["type"] == "NamespaceFinalizersRemaining"
        ]
        return remaining == [
            "Some content in the namespace has finalizers remaining: groundswell.dev/restore in 1 resource instances"
        ]

    await until(waits, 60)
    await asyncio.to_thread(_let_go, place)
    await until(lambda: place.gone(namespace), 60)


def _let_go(place: Operated) -> None:
    """Runs the page's command for a namespace that waits for its spikes."""
    (command,) = re.findall(
        r"`(kubectl [^`]*viralspikes[^`]*finalizers[^`]*)`", (ROOT / "docs" / "deploy.md").read_text()
    )
    own = {"PATH": f"{shelf().path('kubectl').parent}:{os.environ['PATH']}", "KUBECONFIG": str(place.plane.kubeconfig)}
    here = command.replace("-n groundswell", f"-n {place.namespace}")
    subprocess.run(["sh", "-c", here], check=True, env={**os.environ, **own}, timeout=60)


@slow
async def test_kubectl_waits_for_conditions_of_a_spike_and_of_its_policy(place: Operated) -> None:
    """Goal: a condition of an earlier generation than its object's is not met for kubectl."""
    await place.target("web", 1)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("web", 2)], cooldown=QUICK)
    path = await place.spike("vs-a", policy)
    waits = "wait", "--namespace", place.namespace, "--timeout=20s"
    for kind in ("Admitted", "Scaled", "CapacityReady"):
        await asyncio.to_thread(place.plane.kubectl, *waits, f"--for=condition={kind}", "viralspike/vs-a")
    await asyncio.to_thread(place.plane.kubectl, *waits, "--for=condition=Ready", "viralspikepolicy/default")
    await _is_left_alone(place, path)
    await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
    await asyncio.to_thread(place.plane.kubectl, *waits, "--for=condition=Restored", "viralspike/vs-a")
    with pytest.raises(ProgramFailed, match="timed out"):
        place.plane.kubectl(*waits[:-1], "--timeout=1s", "--for=condition=CoolingDown", "viralspike/vs-a")


async def _is_left_alone(place: Operated, path: str) -> None:
    """Once it holds, three looks at a spike call for no write: what is read of it is what was decided."""
    await place.comes_to(path, "Holding")
    version, looks = (await place.admin.get(path))["metadata"]["resourceVersion"], len(looks_s(place))

    async def looked() -> bool:
        return len(looks_s(place)) >= looks + 3

    await until(looked)
    assert (await place.admin.get(path))["metadata"]["resourceVersion"] == version


async def test_a_paused_target_is_left_as_it_is(place: Operated) -> None:
    await with_targets(place)
    annotation = {"metadata": {"annotations": {"groundswell.dev/paused-scale-out": "true"}}}
    await place.admin.patch(place.deployment("web"), annotation)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    await place.spike("vs-a", policy)
    await until(lambda: place.ready("readers", 20))
    assert {each.partition("/")[2] for each in place.foreign()} == {"readers"}


FIGURES = (
    "groundswell_operator_passes_total",
    "groundswell_operator_time_to_write_seconds",
    "groundswell_operator_time_to_ready_seconds",
    "groundswell_operator_watch_heard_timestamp_seconds",
    "groundswell_operator_unreadable_objects",
)


async def test_probes_and_figures_are_served(place: Operated) -> None:
    process = place.start("one")
    await place.leads(process)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        figures = (await client.get("/metrics")).text
        assert "groundswell_operator_leader 1.0" in figures
        assert all(f"# HELP {name} " in figures for name in FIGURES)
