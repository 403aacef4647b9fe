"""The saga, step by step over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.applying.errors import Refused
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Level, Mode, OnExhausted
from groundswell_operator.saga.state import Namespace, Pauses, Phase
from groundswell_operator.saga.steps import LetGo, Note, Record, Step, Write
from tests.operators.passing import (
    BEFORE,
    answer_lost,
    bounds,
    deleted_and_given_up,
    flags,
    phase,
    raised,
    reconciled,
    run_for,
    writes,
)
from tests.operators.world import BUDGET, READERS, VALUES, WEB, WORKERS, World, governing, telling


@pytest.mark.promise("OPERATOR-5")
async def test_the_baseline_is_recorded_before_the_first_write_and_the_floor_is_written_before_the_scale() -> None:
    world = raised(World(governing()))
    await reconciled(world)
    first_write = next(number for number, each in enumerate(world.done) if isinstance(each, Write))
    recorded = [each for each in world.done[:first_write] if isinstance(each, Record)]
    assert [claim.baseline.floor for claim in recorded[-1].progress.claims] == [4, 3, None]
    assert writes(world, READERS) == [SetFloor(20, 20), SetScale(20)]


@pytest.mark.promise("OPERATOR-10")
async def test_half_of_what_comes_later_waits_until_what_comes_first_is_ready() -> None:
    world = raised(World(governing()))
    await reconciled(world)
    assert writes(world, WEB) == [SetFloor(17, 20), SetScale(17)]
    world.turn()
    await reconciled(world)
    assert writes(world, WEB)[2:] == [SetFloor(30, 30), SetScale(30)]


async def test_half_of_what_comes_later_waits_ten_seconds_at_most() -> None:
    world = raised(World(governing()))
    for seconds, web in ((0, 17), (9, 17), (2, 30)):
        world.now_s += seconds
        await reconciled(world)
        assert bounds(world)["web"][0] == web


@pytest.mark.promise("OPERATOR-10")
async def test_an_older_spike_on_other_targets_takes_the_order_from_no_younger_one() -> None:
    everything, other = governing(), governing("other")
    own = [each for each in everything.policy.scales if each.target != WORKERS]
    others = [each for each in other.policy.scales if each.target == WORKERS]
    world = World(
        dataclasses.replace(everything, policy=dataclasses.replace(everything.policy, scales=own)),
        dataclasses.replace(other, policy=dataclasses.replace(other.policy, scales=others)),
    )
    await run_for(raised(world, "old", policy="other"), 30)
    assert bounds(world)["workers"][0] == 20
    await reconciled(raised(world))
    assert writes(world, WEB) == [SetFloor(17, 20), SetScale(17)]


@pytest.mark.promise("OPERATOR-1")
async def test_a_raise_takes_two_writes_a_target_and_two_more_for_the_half_that_waits() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    assert {target.name: len(writes(world, target)) for target in (READERS, WEB, WORKERS)} == {
        "readers": 2,
        "web": 4,
        "workers": 2,
    }
    assert bounds(world) == {"web": (30, 30, 30), "readers": (20, 20, 20), "workers": (20, None, None)}
    assert phase(world) is Phase.HOLDING


async def test_a_raise_ends_where_it_began_in_halves() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    seen = []
    for _ in range(200):
        await run_for(world, 1)
        seen.append(bounds(world)["web"][1])
    steps = [floor for number, floor in enumerate(seen) if number == 0 or floor != seen[number - 1]]
    assert steps == [30, 17, 10, 7, 5, 4, 3]
    assert bounds(world) == BEFORE
    assert phase(world) is Phase.RESTORED
    assert world.state.spikes["a"].progress.conditions["Restored"].status


@pytest.mark.promise("OPERATOR-8")
async def test_what_the_autoscaler_wants_now_is_never_taken_away() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    world.scale(world.state.targets[WEB], wants=12)
    world.scale(world.state.targets[READERS], wants=None)
    seen = []
    for _ in range(200):
        await run_for(world, 1)
        seen.append(bounds(world)["web"][:2])
    floors = [floor for number, (_, floor) in enumerate(seen) if number == 0 or floor != seen[number - 1][1]]
    assert floors == [30, 17, 12, 3]  # at 12 the floor holds nothing up any more
    assert min(replicas for replicas, _ in seen) == 12
    assert bounds(world)["readers"][1] == 20
    assert phase(world) is Phase.COOLING_DOWN
    degraded = world.state.spikes["a"].progress.conditions["Degraded"]
    assert (degraded.status, degraded.reason) == (True, "MetricsUnknown")
    assert degraded.message.startswith("readers is not lowered")


@pytest.mark.promise("OPERATOR-8")
async def test_a_return_ends_though_the_site_needs_more_than_before_the_spike() -> None:
    """Otherwise the place in the budget, its replica-minutes and the keys of ConfigMaps would be held for as long as it does."""
    world = raised(World(telling()))
    await run_for(world, 40)
    world.over("a")
    world.scale(world.state.targets[WEB], wants=5)
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == {**BEFORE, "web": (5, 3, 20)}
    assert flags(world) == VALUES
    assert world.state.policies["default"].notes.budget.extra_replicas == 0


@pytest.mark.promise("OPERATOR-8")
async def test_a_raised_ceiling_stays_while_the_autoscaler_wants_more_than_the_one_before_lets_it_have() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    world.scale(world.state.targets[WEB], wants=40)
    await run_for(world, 200)
    assert bounds(world)["web"] == (30, 30, 30)
    world.scale(world.state.targets[WEB], wants=18)
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world)["web"] == (18, 3, 20)


@pytest.mark.parametrize("wants", [3, None])
async def test_what_a_policy_keeps_is_not_multiplied_again(wants: int | None) -> None:
    found = governing()
    scales = [each for each in found.policy.scales if each.target == WEB]
    world = World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, restores=False, scales=scales)))
    for name in ("a", "b", "c"):
        await run_for(raised(world, name), 40)
        world.over(name)
        world.scale(world.state.targets[WEB], wants=wants)
        await run_for(world, 100)
        assert world.state.spikes[name].progress.conditions["Restored"].reason == "Kept"
        assert bounds(world)["web"] == (30, 30, 30)
    world.scale(world.state.targets[WEB], wants=6)
    await run_for(raised(world, "d"), 20)
    assert bounds(world)["web"][1] == 60  # the load has risen by itself meanwhile


async def test_a_floor_that_somebody_has_set_after_a_raise_was_kept_is_multiplied_as_any_other() -> None:
    found = governing()
    world = raised(World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, restores=False))))
    await run_for(world, 40)
    world.over("a")
    await run_for(world, 100)
    world.scale(world.state.targets[WEB], floor=20, floor_ours=False)
    await run_for(world, 2)
    await run_for(raised(world, "b"), 20)
    assert bounds(world)["web"][1] == 200


async def test_who_resets_the_floor_finds_it_raised_again_and_gets_that_value_in_the_end() -> None:
    world = raised(World(governing()))
    await run_for(world, 10)
    world.scale(world.state.targets[WEB], floor=5, floor_ours=False)
    await reconciled(world)
    assert bounds(world)["web"][1] == 30
    world.delete("a")
    await reconciled(world)
    assert bounds(world)["web"][1:] == (5, 20)


class Reluctant(World):
    """Keeps spikes that are deleted, and all that they say, for as long as it is asked to let them go."""

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        if isinstance(step, LetGo):
            raise Refused(403, "no")
        return await super().perform(step, state, now_s)


async def test_what_a_deleted_spike_said_of_the_baseline_does_not_count_against_what_a_live_one_knows() -> None:
    world = raised(Reluctant(telling()))
    await run_for(raised(world, "b"), 10)
    world.delete("a")
    await run_for(world, 2)
    world.scale(world.state.targets[WEB], floor=5, floor_ours=False)
    world.sets(ttl="7")
    await run_for(world, 2)
    assert bounds(world)["web"][1] == 30
    assert flags(world)["ttl"] == "60"
    world.delete("b")
    await run_for(world, 2)
    assert bounds(world)["web"][1] == 5
    assert flags(world)["ttl"] == "7"


@pytest.mark.promise("OPERATOR-8")
async def test_what_somebody_else_has_set_higher_meanwhile_stays() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    world.scale(world.state.targets[WEB], floor=40, ceiling=60, floor_ours=False, ceiling_ours=False)
    world.over("a")
    await run_for(world, 200)
    assert bounds(world)["web"][1:] == (40, 60)
    restored = world.state.spikes["a"].progress.conditions["Restored"]
    assert (restored.status, restored.reason) == (False, "BaselineChanged")
    assert "web" in restored.message


async def test_a_floor_that_somebody_else_has_set_to_the_same_value_is_left_to_them() -> None:
    world = raised(World(governing()))
    await run_for(world, 10)
    world.scale(world.state.targets[WEB], floor_shared=True)
    world.delete("a")
    await run_for(world, 5)
    assert bounds(world)["web"][1] == 30
    assert not world.state.spikes


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_that_somebody_else_sets_to_the_same_value_on_its_way_down_is_left_to_them_and_named() -> None:
    """Each step down would be by force otherwise, and what they have set would be gone without a word."""
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    while bounds(world)["web"][1] == 30:
        await run_for(world, 1)
    world.scale(world.state.targets[WEB], floor_shared=True)
    await run_for(world, 200)
    assert bounds(world) == {**BEFORE, "web": (17, 17, 20)}
    restored = world.state.spikes["a"].progress.conditions["Restored"]
    assert (restored.status, restored.reason) == (False, "BaselineChanged")
    assert "web" in restored.message


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_above_the_ceiling_from_before_that_somebody_else_has_set_meanwhile_is_what_they_get_back() -> (
    None
):
    """It is in the room that our own ceiling made."""
    world = raised(World(governing()))
    await run_for(world, 40)
    world.scale(world.state.targets[WEB], floor=25, floor_ours=False)
    await run_for(world, 2)
    assert bounds(world)["web"] == (30, 30, 30)
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == {**BEFORE, "web": (25, 25, 25)}


@pytest.mark.parametrize("wants", [None, 0])
async def test_a_target_that_is_not_at_its_floor_yet_is_raised_from_there(wants: int | None) -> None:
    """As right after an install, which leaves the number of pods to the autoscaler."""
    world = World(governing())
    world.scale(world.state.targets[WEB], wants=wants)
    world.show(dataclasses.replace(world.state.targets[WEB], replicas=1, ready=1))
    await run_for(raised(world), 15)
    assert bounds(world)["web"][:2] == (30, 30)


@pytest.mark.promise("OPERATOR-8")
@pytest.mark.parametrize(("floor", "ceiling"), [(5, 20), (25, 25)])
async def test_a_ceiling_is_given_back_though_somebody_else_has_set_the_floor_meanwhile(
    floor: int, ceiling: int
) -> None:
    """As far as their floor lets it."""
    world = raised(World(governing()))
    await run_for(world, 10)
    world.delete("a")
    world.scale(world.state.targets[WEB], floor=floor, floor_ours=False)
    await run_for(world, 5)
    assert bounds(world)["web"][1:] == (floor, ceiling)
    assert not world.state.spikes


async def test_the_floor_is_the_largest_of_all_live_spikes_and_is_given_back_after_the_last() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    raised(world, "b")
    await run_for(world, 5)
    assert [claim.baseline for claim in world.state.spikes["b"].progress.claims] == [
        claim.baseline for claim in world.state.spikes["a"].progress.claims
    ]
    world.delete("a")
    await run_for(world, 5)
    assert bounds(world)["web"][1] == 30
    world.delete("b")
    await run_for(world, 5)
    assert bounds(world) == BEFORE
    assert not world.state.spikes


@pytest.mark.promise("OPERATOR-7")
async def test_a_spike_that_waits_for_one_target_keeps_nothing_of_another_up_for_those_that_are_over() -> None:
    """A quota lets no more readers in, so the second spike does not get past its raise; of web it has all that it asks for."""
    found, more = governing(), governing("other")
    own = [dataclasses.replace(each, max=300) for each in found.policy.scales if each.target == WEB]
    others = [dataclasses.replace(each, multiplier=4) for each in more.policy.scales if each.target != WORKERS]
    world = raised(
        World(
            dataclasses.replace(found, policy=dataclasses.replace(found.policy, scales=own)),
            dataclasses.replace(more, policy=dataclasses.replace(more.policy, scales=others)),
        )
    )
    await run_for(world, 10)
    world.keeps_down = {READERS: 5}
    await run_for(raised(world, "b", policy="other"), 20)
    assert (bounds(world)["web"], phase(world, "b")) == ((30, 30, 30), Phase.RAISING)
    world.over("a")
    await run_for(world, 200)
    assert (phase(world), phase(world, "b")) == (Phase.RESTORED, Phase.RAISING)
    assert bounds(world)["web"] == (12, 12, 20)


async def test_of_two_policies_over_one_target_the_stricter_maximum_counts_and_conditions_name_both() -> None:
    strict = governing("strict")
    scales = [dataclasses.replace(each, max=12) for each in strict.policy.scales]
    world = World(governing(), dataclasses.replace(strict, policy=dataclasses.replace(strict.policy, scales=scales)))
    await run_for(raised(world), 15)
    assert {name: each[0] for name, each in bounds(world).items()} == {"web": 12, "readers": 12, "workers": 12}
    admitted = world.state.spikes["a"].progress.conditions["Admitted"].message
    assert "web 3 → 12, the most that strict let it have, which is less than default does" in admitted
    for each in world.state.policies.values():
        said = each.notes.conditions["Overlapping"]
        assert (said.status, said.reason) == (True, "StricterMaxWins")
        assert "web gets 12 at most: default lets it have 300, strict lets it have 12" in said.message
    world.govern(dataclasses.replace(strict, policy=dataclasses.replace(strict.policy, scales=[])))
    await run_for(world, 2)
    assert world.state.policies["default"].notes.conditions["Overlapping"].reason == "NotOverlapping"


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


@pytest.mark.promise("OPERATOR-3")
async def test_a_spike_that_comes_as_a_floor_is_lowered_by_somebody_else_knows_that_floor_as_the_baseline() -> None:
    """Both in one look, before the earlier spike has recorded it: who is given back last must not bring back what was there long ago. The
    finalizer is there already, from an operator that was killed; and the answer to its record is lost, so this one cannot mend it."""
    world = raised(World(governing()))
    await run_for(world, 5)
    world.scale(world.state.targets[WEB], floor=5, floor_ours=False)
    world.put(dataclasses.replace(raised(world, "b").state.spikes["b"], held=True))
    world.fault = answer_lost(world, "b")
    await reconciled(world)
    assert bounds(world)["web"][1] == 30
    for name in ("a", "b"):
        world.delete(name)
        await run_for(world, 5)
    assert bounds(world)["web"][1] == 5


async def test_a_spike_right_after_another_multiplies_what_the_load_calls_for_and_not_what_is_still_there() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    world.delete("a")
    await reconciled(world)  # the autoscalers have not looked since
    assert bounds(world)["web"] == (30, 3, 20)
    await reconciled(raised(world, "b"))
    assert [claim.baseline.replicas for claim in world.state.spikes["b"].progress.claims] == [4, 3, 2]


@pytest.mark.promise("OPERATOR-12")
async def test_the_finalizer_is_given_up_after_five_minutes_when_a_raise_cannot_be_taken_back() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    world.show(dataclasses.replace(world.state.targets[WEB], pauses=Pauses(scale_in=True)))
    await deleted_and_given_up(world)


async def test_a_spike_that_is_deleted_while_it_lives_is_dismissed_before_it_goes_and_for_as_long_as_it_may_last() -> (
    None
):
    world = raised(World(governing()))
    raised(world, "b")
    await run_for(world, 5)
    world.over("b")
    deleted_s = world.clock()
    for name in ("a", "b"):
        world.delete(name)
    await run_for(world, 2)
    assert world.state.policies["default"].notes.dismissed == {"a": deleted_s}
    dismissing = [n for n, step in enumerate(world.done) if isinstance(step, Note) and "a" in step.notes.dismissed]
    assert dismissing[0] < min(n for n, step in enumerate(world.done) if isinstance(step, LetGo))
    world.now_s += BUDGET.spike_duration_s_max
    await run_for(world, 1)
    assert not world.state.policies["default"].notes.dismissed


async def test_a_policy_that_cannot_be_written_keeps_no_deleted_spike() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    world.fails = lambda step: Refused(422, "invalid") if isinstance(step, Note) else None
    world.delete("a")
    await run_for(world, 2)
    assert not world.state.spikes
    assert bounds(world)["web"][1] == 3


async def test_nothing_is_left_to_do_once_it_is_done() -> None:
    world = raised(World(governing()))
    await run_for(world, 10)
    done = len(world.done)
    await reconciled(world)
    assert len(world.done) == done
