"""Which spikes are acted upon, and how far: modes, matches, places and budgets, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import Level, Mode, OnExhausted
from groundswell_operator.saga import accounting, claims
from groundswell_operator.saga.state import Budget, Phase, Scaled
from groundswell_operator.saga.steps import Write
from tests.operators.passing import (
    BEFORE,
    bounds,
    phase,
    raised,
    reconciled,
    run_for,
    writes,
)
from tests.operators.world import BUDGET, START_S, WEB, WORKERS, World, governing


async def test_a_policy_that_only_observes_bounds_no_other() -> None:
    strict = governing("strict", mode=Mode.OBSERVE)
    scales = [dataclasses.replace(each, max=12) for each in strict.policy.scales]
    world = World(governing(), dataclasses.replace(strict, policy=dataclasses.replace(strict.policy, scales=scales)))
    await run_for(raised(world), 15)
    assert bounds(world)["web"][0] == 30
    assert "Overlapping" not in world.state.policies["default"].notes.conditions


@pytest.mark.promise("OPERATOR-6")
async def test_observing_writes_nothing_foreign_and_records_what_it_would_do() -> None:
    world = raised(World(governing(mode=Mode.OBSERVE)))
    await run_for(world, 5)
    scaled = world.state.spikes["a"].progress.conditions["Scaled"]
    assert (scaled.status, scaled.reason, scaled.message) == (
        False,
        "WouldRaise",
        "readers 20, web 30, workers 20",
    )
    world.over("a")
    await run_for(world, 100)
    assert phase(world) is Phase.RESTORED
    assert not [each for each in world.done if isinstance(each, Write)]


async def test_observing_compares_the_plan_with_what_the_autoscaler_did_alone() -> None:
    world = raised(World(governing(mode=Mode.OBSERVE)))
    await reconciled(world)
    for wants in (6, 12, 24, 30):
        world.scale(world.state.targets[WEB], wants=wants, ceiling=60)
        await run_for(world, 15)
    world.over("a")
    world.scale(world.state.targets[WEB], wants=3)
    await run_for(world, 100)
    assert phase(world) is Phase.RESTORED
    seen = {each.action: each.would_have for each in world.state.spikes["a"].progress.claims}
    web, readers = seen["web"], seen["readers"]
    assert web is not None
    assert readers is not None
    decided_s = world.state.spikes["a"].progress.decided_s
    assert decided_s is not None
    assert (web.replicas_max, web.reached_s) == (30, decided_s + 46)
    assert web.replica_s == 15 * (3 + 9 + 21 + 27)
    held_s, down_s = 120, 10 * (14 + 7 + 4 + 2 + 1)
    assert web.planned_replica_s == 27 * held_s + down_s
    assert (readers.replicas_max, readers.reached_s, readers.replica_s) == (4, None, 0)
    assert not writes(world, WEB)


async def test_a_spike_that_was_only_observed_is_not_acted_upon_later_and_what_was_raised_is_given_back_though_observed() -> (
    None
):
    world = raised(World(governing(mode=Mode.OBSERVE)))
    await run_for(world, 2)
    world.govern(governing(mode=Mode.ENFORCE))
    await run_for(world, 5)
    assert bounds(world) == BEFORE
    await run_for(raised(world, "b"), 5)
    world.govern(governing(mode=Mode.OBSERVE))
    world.scale(world.state.targets[WEB], floor=3, floor_ours=False)
    world.delete("b")
    await run_for(world, 5)
    assert bounds(world)["web"][1] == 3
    assert bounds(world)["readers"] == BEFORE["readers"]


async def test_spikes_that_were_only_observed_keep_their_places_from_none_that_is_acted_upon() -> None:
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=2)
    world = World(governing(mode=Mode.OBSERVE, budget=budget))
    for name in ("a", "b", "c"):
        raised(world, name)
    await run_for(world, 2)
    assert [phase(world, name) for name in "abc"] == [Phase.RAISING, Phase.RAISING, Phase.PENDING]
    world.govern(governing(mode=Mode.ENFORCE, budget=budget))
    for name in ("d", "e"):
        await run_for(raised(world, name), 5)
    assert [phase(world, name) for name in "cde"] == [Phase.HOLDING, Phase.HOLDING, Phase.PENDING]
    assert [name for name, each in world.state.spikes.items() if each.acts] == ["c", "d"]
    assert bounds(world)["web"] == (30, 30, 30)


@pytest.mark.promise("OPERATOR-6")
async def test_a_spike_waits_for_its_approval_where_the_policy_says_so() -> None:
    world = raised(World(governing(mode=Mode.APPROVE)))
    await run_for(world, 5)
    assert phase(world) is Phase.AWAITING_APPROVAL
    assert "groundswell.dev/approve=a" in world.state.spikes["a"].progress.conditions["Admitted"].message
    world.govern(dataclasses.replace(governing(mode=Mode.APPROVE), approved=frozenset({"a"})))
    await run_for(world, 5)
    assert phase(world) is Phase.HOLDING


@pytest.mark.promise("OPERATOR-7")
@pytest.mark.parametrize(
    ("on_exhausted", "expected", "reason"),
    [
        (OnExhausted.CLAMP, Phase.HOLDING, "Clamped"),
        (OnExhausted.REJECT, Phase.REJECTED, "BudgetExhausted"),
        (OnExhausted.NOTIFY_ONLY, Phase.HOLDING, "NotifyOnly"),
    ],
)
async def test_what_the_budget_does_not_cover_is_said_aloud(
    on_exhausted: OnExhausted, expected: Phase, reason: str
) -> None:
    budget = dataclasses.replace(BUDGET, extra_replicas_max=30, on_exhausted=on_exhausted)
    world = raised(World(governing(budget=budget)))
    await run_for(world, 5)
    assert phase(world) is expected
    assert world.state.spikes["a"].progress.conditions["Admitted"].reason == reason
    extra = sum(each.replicas for each in world.state.targets.values()) - 9
    assert extra == {OnExhausted.CLAMP: 28}.get(on_exhausted, 0)  # 30 in parts of 16, 27 and 18, rounded down


@pytest.mark.promise("OPERATOR-7")
async def test_the_use_of_a_budget_is_counted_over_restarts_and_what_exceeds_it_is_taken_back() -> None:
    budget = dataclasses.replace(BUDGET, replica_minutes_day_max=80)
    world = raised(World(governing(budget=budget)))
    await run_for(world, 10)
    world.now_s += 30  # nobody is there to count
    await run_for(world, 60)
    notes = world.state.policies["default"].notes
    assert notes.budget.replica_seconds > 61 * 35
    assert not notes.conditions["BudgetAvailable"].status
    assert world.state.spikes["a"].progress.conditions["CoolingDown"].reason == "BudgetSpent"
    await run_for(world, 100)
    assert bounds(world) == BEFORE


@pytest.mark.promise("OPERATOR-7")
async def test_what_the_budget_of_a_day_did_not_cover_is_raised_on_the_next() -> None:
    budget = dataclasses.replace(BUDGET, replica_minutes_day_max=80, spike_duration_s_max=accounting.DAY_S)
    found = governing(budget=budget)
    spent = accounting.brought_up(Budget(extra_replicas=1_000), START_S)
    spent = dataclasses.replace(spent, replica_seconds=80 * 60, extra_replicas=0)
    world = raised(World(dataclasses.replace(found, notes=dataclasses.replace(found.notes, budget=spent))))
    await run_for(world, 5)
    admitted = world.state.spikes["a"].progress.conditions["Admitted"]
    assert (admitted.status, admitted.reason) == (True, "Clamped")
    assert bounds(world) == BEFORE
    world.scale(world.state.targets[WEB], floor=5)  # nothing of ours stands against that
    world.now_s += accounting.DAY_S - START_S % accounting.DAY_S
    await run_for(world, 5)
    assert bounds(world) == {"web": (30, 30, 30), "readers": (20, 20, 20), "workers": (20, None, None)}
    progress = world.state.spikes["a"].progress
    assert (progress.phase, progress.conditions["Admitted"].reason) == (Phase.HOLDING, "Admitted")
    world.delete("a")
    await run_for(world, 5)
    assert bounds(world) == {**BEFORE, "web": (5, 5, 20)}


@pytest.mark.promise("OPERATOR-7")
async def test_spikes_that_were_clamped_get_together_no_more_than_what_the_budget_covers_by_now() -> None:
    budget = dataclasses.replace(BUDGET, extra_replicas_max=40)
    world = World(governing(budget=budget))
    workers = without_workers(world)
    for name in ("a", "b"):
        await run_for(raised(world, name), 5)
    world.show(workers)
    await run_for(world, 5)
    assert bounds(world)["workers"] == BEFORE["workers"], "the others have all of it"
    for most in (50, 61):
        world.govern(governing(budget=dataclasses.replace(budget, extra_replicas_max=most)))
        for _ in range(5):
            await run_for(world, 1)
            assert claims.extra(world.state, "default") <= most
        assert bounds(world)["workers"][0] > 2
    assert bounds(world) == {"web": (30, 30, 30), "readers": (20, 20, 20), "workers": (20, None, None)}
    assert {each.progress.conditions["Admitted"].reason for each in world.state.spikes.values()} == {"Admitted"}


async def test_a_target_that_cannot_be_raised_at_first_is_raised_as_soon_as_it_can_and_given_back() -> None:
    world = World(governing())
    workers = without_workers(world)
    await run_for(raised(world), 20)
    admitted = world.state.spikes["a"].progress.conditions["Admitted"]
    assert (admitted.reason, phase(world)) == ("ActionsUnusable", Phase.HOLDING)
    assert "Deployment workers does not exist" in admitted.message
    world.show(workers)
    await run_for(world, 5)
    assert bounds(world) == {"web": (30, 30, 30), "readers": (20, 20, 20), "workers": (20, None, None)}
    admitted = world.state.spikes["a"].progress.conditions["Admitted"]
    assert (admitted.reason, phase(world)) == ("Admitted", Phase.HOLDING)
    assert "workers 2 → 20" in admitted.message
    world.over("a")
    await run_for(world, 200)
    assert bounds(world) == BEFORE
    assert phase(world) is Phase.RESTORED


async def test_nothing_more_is_raised_for_a_spike_that_is_over_or_whose_policy_only_observes_by_now() -> None:
    for changes in ("over", "observes"):
        world = World(governing())
        workers = without_workers(world)
        await run_for(raised(world), 5)
        if changes == "over":
            world.over("a")
        else:
            world.govern(governing(mode=Mode.OBSERVE))
        world.show(workers)
        await run_for(world, 5)
        assert bounds(world)["workers"] == BEFORE["workers"]
        assert [each.action for each in world.state.spikes["a"].progress.claims] == ["readers", "web"]


async def test_of_a_thousand_spikes_the_biggest_get_the_places_and_the_rest_are_refused() -> None:
    budget = dataclasses.replace(BUDGET, on_exhausted=OnExhausted.REJECT)
    world = World(governing(budget=budget))
    for number in range(1_000):
        raised(world, f"s{number:04}", views=number)
    for _ in range(200):
        await reconciled(world)
    held = [name for name, each in world.state.spikes.items() if each.progress.phase is not Phase.REJECTED]
    assert sorted(held) == ["s0997", "s0998", "s0999"]


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.APPROVE])
async def test_a_spike_waits_no_longer_than_one_may_last(mode: Mode) -> None:
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=1 if mode is Mode.ENFORCE else 3)
    world = raised(raised(World(governing(mode=mode, budget=budget))), "b", views=1)
    await run_for(world, 5)
    waits = world.state.spikes["b"].progress
    assert waits.conditions["Admitted"].reason in ("BudgetExhausted", "AwaitingApproval")
    world.now_s += BUDGET.spike_duration_s_max
    world.govern(dataclasses.replace(world.state.policies["default"], approved=frozenset({"b"})))
    await run_for(world, 200)
    refused = world.state.spikes["b"].progress
    assert (refused.phase, refused.conditions["Admitted"].reason) == (Phase.REJECTED, "WaitedTooLong")
    assert bounds(world) == BEFORE


async def test_a_spike_of_another_match_waits_until_its_level_has_risen() -> None:
    strict = governing()
    match = dataclasses.replace(strict.policy.match, min_level=Level.HOT)
    world = raised(World(dataclasses.replace(strict, policy=dataclasses.replace(strict.policy, match=match))))
    await run_for(world, 2)
    assert phase(world) is Phase.PENDING
    held = world.state.spikes["a"]
    world.put(dataclasses.replace(held, evidence=dataclasses.replace(held.evidence, level=Level.HOT)))
    await run_for(world, 5)
    assert phase(world) is Phase.HOLDING


async def test_a_spike_that_comes_long_after_its_first_detection_is_raised() -> None:
    """One that was only rising for long, or that a policy was made in the middle of: how old its record is, the bridge has judged."""
    world = raised(World(governing()))
    held = world.state.spikes["a"]
    detected_s = world.clock() - 10 * world.state.policies["default"].policy.record_age_s_max
    world.put(dataclasses.replace(held, evidence=dataclasses.replace(held.evidence, detected_s=detected_s)))
    await run_for(world, 5)
    assert phase(world) is Phase.HOLDING
    assert bounds(world)["web"] == (30, 30, 30)


def without_workers(world: World) -> Scaled:
    """Takes them away; what they were."""
    left = {target: each for target, each in world.state.targets.items() if target != WORKERS}
    workers = world.state.targets[WORKERS]
    world.state = dataclasses.replace(world.state, targets=left)
    return workers
