"""The operator on a real control plane: what it writes, in which order, and what is left of it in the end."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import httpx
import pytest

from groundswell.engines import ports
from groundswell_operator.applying import scalers
from groundswell_operator.applying.requests import WRITES_S_MAX
from tests.cluster import load
from tests.cluster.control_plane.api import Object, until
from tests.cluster.control_plane.handle import ProgramFailed
from tests.cluster.forms import form, slow
from tests.cluster.operating import QUICK, Operated, Process, scales

WEB = {"minReplicas": 3, "maxReplicas": 20}
READERS = {"minReplicas": 4, "maxReplicas": 20}
LIVES_MAX = 40
NEEDED = 12
"""Pods of web that the load calls for after a spike, more than before it."""


async def with_targets(place: Operated, reader_delay: str = "1s") -> None:
    await asyncio.gather(
        place.target("readers", 4, scaler=READERS, delay=reader_delay), place.target("web", 3, scaler=WEB)
    )


@pytest.mark.promise("OPERATOR-1", "OPERATOR-3", "OPERATOR-12")
async def test_a_spike_raises_readers_and_web_tells_each_transition_once_and_gives_all_back_when_deleted(
    place: Operated,
) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    path = await place.spike("vs-a", policy)
    status = await place.comes_to(path, "Holding")
    assert await place.ready("web", 30)
    assert await place.ready("readers", 20)
    _raised_once(place, "readers", "web")
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


def _raised_once(place: Operated, *targets: str) -> None:
    """The floor of each was written once, and its scale once afterwards, unless its autoscaler was quicker."""
    written = place.foreign()
    for name in targets:
        ours = [each.partition("/")[0] for each in written if each.endswith(f"/{name}")]
        assert ours in (["horizontalpodautoscalers", "deployments"], ["horizontalpodautoscalers"])


@pytest.mark.promise("OPERATOR-11")
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


@pytest.mark.promise("OPERATOR-3")
async def test_who_resets_the_floor_finds_it_raised_again_within_five_seconds(place: Operated) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 5, "maxReplicas": 25})
    began = time.monotonic()

    async def raised() -> bool:
        return await place.bounds("web") == (30, 30)

    await until(raised)
    assert time.monotonic() - began < 5
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (5, 25)


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_that_somebody_else_has_set_to_the_same_value_is_left_to_them(place: Operated) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 30, "maxReplicas": 30})
    assert len(await place.floor_managers("web")) == 2
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (30, 30)
    assert await place.floor_managers("web") == {"helm"}


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_that_somebody_raises_above_the_spikes_stays_and_the_spike_names_it(place: Operated) -> None:
    """A person who sets 35 while the spike holds 30 finds 35 afterwards, and reads why nothing came back."""
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 35, "maxReplicas": 40})
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (35, 40)
    events = await place.admin.items(place.path("v1", "events"), fieldSelector="involvedObject.name=vs-a")
    (told,) = [each["message"] for each in events if each["reason"] == "BaselineChanged"]
    assert "web" in told


@pytest.mark.promise("OPERATOR-10")
async def test_the_second_half_of_web_waits_until_the_readers_are_ready(place: Operated) -> None:
    await with_targets(place, reader_delay="4s")
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("readers", 5, order=0), scales("web", 10, order=1)])
    path = await place.spike("vs-a", policy)
    await until(lambda: place.ready("web", 17))
    assert not await place.ready("readers", 20)
    await place.comes_to(path, "Holding")
    assert await place.ready("web", 30)


@slow
@pytest.mark.promise("OPERATOR-10")
async def test_readers_that_need_twenty_seconds_keep_web_waiting_for_ten(place: Operated) -> None:
    await with_targets(place, reader_delay="20s")
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("readers", 5, order=0), scales("web", 10, order=1)])
    path = await place.spike("vs-a", policy)
    await until(lambda: place.ready("web", 17))
    first_s = time.monotonic()
    await until(lambda: place.ready("web", 30))
    assert time.monotonic() - first_s > 5, "it has waited"
    assert not await place.ready("readers", 20), "but not for them"
    await place.comes_to(path, "Holding")


@pytest.mark.promise("OPERATOR-6")
@pytest.mark.parametrize(("mode", "writes"), [("Observe", {0}), ("Enforce", {1, 2})])
async def test_observing_writes_nothing_foreign_and_says_what_it_would_do(
    place: Operated, mode: str, writes: set[int]
) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    budget = {"maxConcurrentSpikes": 10}
    policy = await place.policy(mode=mode, actions=[scales("web", 10)], cooldown=QUICK, budget=budget)
    paths = [await place.spike(f"vs-{number}", policy) for number in range(10)]
    for path in paths:
        status = await place.comes_to(path, "Holding" if mode == "Enforce" else "Raising")
        assert status["targets"][0]["desired"] == 30
    for path in paths:
        await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
    if mode == "Observe":
        for path in paths:
            await place.comes_to(path, "Restored")
    assert len(place.foreign()) in writes


@pytest.mark.promise("OPERATOR-6")
async def test_a_spike_is_acted_upon_once_a_person_has_approved_it(place: Operated) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(mode="Approve", actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "AwaitingApproval")
    assert not place.foreign()
    annotation = {"metadata": {"annotations": {"groundswell.dev/approve": "vs-a"}}}
    await place.admin.patch(f"{place.policies}/default", annotation)
    await place.comes_to(path, "Holding")


@pytest.mark.promise("OPERATOR-5")
async def test_an_operator_that_is_killed_after_every_single_step_makes_one_raise_and_one_return(
    place: Operated,
) -> None:
    await with_targets(place)
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    path = await place.spike("vs-a", policy)
    lives = await lives_until(place, path, "Holding")
    _raised_once(place, "readers", "web")
    status = (await place.admin.get(path))["status"]
    assert {each["name"]: each["baseline"]["replicas"] for each in status["targets"]} == {"readers": 4, "web": 3}
    await place.admin.delete(path)
    lives += await lives_until(place, path, "")
    assert [await place.bounds(name) for name in ("readers", "web")] == [(4, 20), (3, 20)]
    assert sorted(place.foreign("life--")) == ["horizontalpodautoscalers/readers", "horizontalpodautoscalers/web"]
    assert lives > 10


async def lives_until(place: Operated, path: str, phase: str) -> int:
    """Starts operators that die after one step each until the spike is in a phase, or gone; how many it took."""
    for life in range(1, LIVES_MAX):
        process = place.start(f"life-{phase}-{life}", "tests.cluster.dying", environment={"DIES_AFTER": "1"})
        await until(lambda: _ended(place, process, path, phase))  # noqa: B023  # it is awaited within the turn
        process.kill()
        if await place.leader():
            await place.forget_leader()
        if await _reached(place, path, phase):
            return life
    raise AssertionError(process.log.read_text())


async def _ended(place: Operated, process: Process, path: str, phase: str) -> bool:
    return process.popen.poll() is not None or await _reached(place, path, phase)


async def _reached(place: Operated, path: str, phase: str) -> bool:
    return await place.phase(path) == phase if phase else await place.gone(path)


@pytest.mark.promise("OPERATOR-7")
async def test_what_the_budget_does_not_cover_is_clamped_and_its_use_survives_a_restart(place: Operated) -> None:
    await with_targets(place)
    first = place.start("one")
    await place.leads(first)
    policy = await place.policy(actions=[scales("web", 10)], budget={"maxExtraReplicas": 10}, cooldown=QUICK)
    path = await place.spike("vs-a", policy)
    status = await place.comes_to(path, "Holding")
    admitted = next(each for each in status["conditions"] if each["type"] == "Admitted")
    assert admitted["reason"] == "Clamped"
    assert admitted["message"] == "web 3 → 13 of 30, which the budget does not cover"
    assert await place.ready("web", 13)

    async def budget() -> dict[str, float]:
        found: dict[str, float] = (await place.admin.get(f"{place.policies}/default"))["status"]["budget"]
        return found

    async def held() -> bool:
        return (await budget())["extraReplicas"] == 10

    await until(held)
    began = time.monotonic()
    first.kill()
    await place.forget_leader()
    await place.leads(place.start("two"))
    await place.admin.delete(path)
    await until(lambda: place.gone(path))

    async def counted() -> bool:
        return (await budget())["extraReplicas"] == 0

    await until(counted)
    assert (await budget())["replicaSecondsUsed"] >= 10 * (time.monotonic() - began - 1.5)


@pytest.mark.promise("OPERATOR-12")
async def test_deleting_a_policy_gives_back_what_its_spikes_raised(place: Operated) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.admin.delete(f"{place.policies}/default")
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (3, 20)


async def test_of_two_policies_over_one_target_the_stricter_maximum_counts_and_conditions_name_both(
    place: Operated,
) -> None:
    await with_targets(place)
    await place.leads(place.start("one"))
    lax = await place.policy("lax", actions=[scales("web", 10)])
    await place.policy("strict", actions=[scales("web", 2, most=12)])
    for name in ("lax", "strict"):
        both = await place.says(f"{place.policies}/{name}", "Overlapping", "StricterMaxWins")
        assert both["message"] == "web gets 12 at most: lax lets it have 300, strict lets it have 12"
    await place.comes_to(await place.spike("vs-a", lax), "Holding")
    assert await place.ready("web", 12)


WAITING = form(100, 300)


async def test_of_many_spikes_at_once_the_biggest_get_the_places_and_there_are_twenty_writes_a_second_at_most(
    place: Operated,
) -> None:
    await place.target("web", 1)
    budget = {"maxConcurrentSpikes": 3, "onExhausted": "Reject"}
    policy = await place.policy(actions=[scales("web", 2)], budget=budget)
    await asyncio.gather(*(place.spike(f"vs-{views}", policy, views=views) for views in range(WAITING)))
    await place.leads(place.start("one"))

    async def decided() -> bool:
        found = [each.get("status", {}).get("phase") for each in await place.admin.items(place.spikes)]
        return found.count("Rejected") == WAITING - 3

    await until(decided, 120)
    for views in (WAITING - 1, WAITING - 2, WAITING - 3):
        await place.comes_to(f"{place.spikes}/vs-{views}", "Holding")
    moments = sorted(_moment_s(each) for each in place.writes("one") if each["objectRef"]["resource"] != "leases")
    assert len(moments) > 2 * WAITING
    assert len(moments) <= WRITES_S_MAX * (moments[-1] - min(_looks_s(place)) + 1)


def _looks_s(place: Operated) -> list[float]:
    """When the operator that leads asked for the namespace's policies: the first time before its first write was sent."""
    return [
        _moment_s(each)
        for each in place.plane.audit(place.namespace)
        if each["requestURI"] == place.policies and each.get("userAgent") == "groundswell-operator/one"
    ]


def _moment_s(event: Object) -> float:
    """When the API server got a request."""
    return datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()


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
    version, looks = (await place.admin.get(path))["metadata"]["resourceVersion"], len(_looks_s(place))

    async def looked() -> bool:
        return len(_looks_s(place)) >= looks + 3

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


async def test_probes_and_figures_are_served(place: Operated) -> None:
    process = place.start("one")
    await place.leads(process)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert "groundswell_operator_leader 1.0" in (await client.get("/metrics")).text


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_is_taken_back_in_halves_and_never_below_what_the_load_calls_for(place: Operated) -> None:
    average = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    scaler = {**WEB, "metrics": [{"type": "External", "external": average}]}
    async with load.served(place.admin, place.namespace, place.folder, ports.draw(1)[0], 3) as called_for:
        await place.target("web", 3, scaler=scaler)
        await place.leads(place.start("one"))
        policy = await place.policy(actions=[scales("web", 10)], cooldown=QUICK)
        path = await place.spike("vs-a", policy)
        await place.comes_to(path, "Holding")
        called_for.total = NEEDED
        await until(lambda: _wants(place, NEEDED))
        await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
        # at what the autoscaler wants the floor holds nothing up any more
        assert await _floors_until(place, 3) == [30, 17, NEEDED, 3]
        await place.comes_to(path, "Restored")
        assert await place.bounds("web") == (3, 20)
        assert (await place.admin.get(place.deployment("web")))["spec"]["replicas"] >= NEEDED


async def test_observing_compares_the_plan_with_what_the_autoscaler_did_alone(place: Operated) -> None:
    average = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    scaler = {**WEB, "metrics": [{"type": "External", "external": average}]}
    async with load.served(place.admin, place.namespace, place.folder, ports.draw(1)[0], 3) as called_for:
        await place.target("web", 3, scaler=scaler)
        await until(lambda: _wants(place, 3))
        await place.leads(place.start("one"))
        policy = await place.policy(mode="Observe", actions=[scales("web", 2)], cooldown=QUICK)
        path = await place.spike("vs-a", policy)
        await place.comes_to(path, "Raising")
        called_for.total = 6
        await until(lambda: place.ready("web", 6), 60)
        await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
        status = await place.comes_to(path, "Restored")
        found = status["targets"][0]["wouldHave"]
        assert (found["pods"], found["podsAlone"]) == (6, 6)
        assert 0 < found["secondsEarlier"] < 60
        assert found["replicaSeconds"] > found["replicaSecondsAlone"] > 0
        assert not place.foreign()


async def _wants(place: Operated, replicas: int) -> bool:
    return scalers.wants(await place.admin.get(place.autoscaler("web"))) == replicas


async def _floors_until(place: Operated, last: int) -> list[int]:
    """The floors of web one after the other, up to a last one."""
    seen: list[int] = []

    async def is_last() -> bool:
        floor = (await place.bounds("web"))[0]
        if not seen or seen[-1] != floor:
            seen.append(floor)
        return floor == last

    await until(is_last, 60)
    return seen
