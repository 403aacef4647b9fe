"""Which spikes are acted upon on a real control plane, and how far: modes, places, budgets, and policies over one target."""

from __future__ import annotations

import asyncio
import time

import pytest

from groundswell_operator.applying.requests import OPERATOR_WRITES_S_MAX
from tests.cluster.control_plane.api import until
from tests.cluster.forms import slow
from tests.cluster.operating import QUICK, Operated, scales
from tests.cluster.raising import led_with_targets, looks_s, moment_s, with_targets

WAITING = 300


@pytest.mark.promise("OPERATOR-6")
@pytest.mark.parametrize(("mode", "writes"), [("Observe", {0}), ("Enforce", {1, 2})])
async def test_observing_writes_nothing_foreign_and_says_what_it_would_do(
    place: Operated, mode: str, writes: set[int]
) -> None:
    await led_with_targets(place)
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
@slow
async def test_a_spike_is_acted_upon_once_a_person_has_approved_it(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(mode="Approve", actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "AwaitingApproval")
    assert not place.foreign()
    annotation = {"metadata": {"annotations": {"groundswell.dev/approve": "vs-a"}}}
    await place.admin.patch(f"{place.policies}/default", annotation)
    await place.comes_to(path, "Holding")


@pytest.mark.alone
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


@slow
async def test_of_two_policies_over_one_target_the_stricter_maximum_counts_and_conditions_name_both(
    place: Operated,
) -> None:
    await led_with_targets(place)
    lax = await place.policy("lax", actions=[scales("web", 10)])
    await place.policy("strict", actions=[scales("web", 2, most=12)])
    for name in ("lax", "strict"):
        both = await place.says(f"{place.policies}/{name}", "Overlapping", "StricterMaxWins")
        assert both["message"] == "web gets 12 at most: lax lets it have 300, strict lets it have 12"
    await place.comes_to(await place.spike("vs-a", lax), "Holding")
    assert await place.ready("web", 12)


@slow
async def test_of_many_spikes_at_once_the_biggest_get_the_places_and_there_are_ten_writes_a_second_at_most(
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
    moments = sorted(moment_s(each) for each in place.writes("one") if each["objectRef"]["resource"] != "leases")
    assert len(moments) > 2 * WAITING
    assert len(moments) <= OPERATOR_WRITES_S_MAX * (moments[-1] - min(looks_s(place)) + 1)
