"""How a spike is raised, step by step over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.saga.state import Phase
from groundswell_operator.saga.steps import Record, Write
from tests.operators.passing import (
    BEFORE,
    answer_lost,
    bounds,
    phase,
    raised,
    reconciled,
    run_for,
    writes,
)
from tests.operators.world import READERS, WEB, WORKERS, World, governing


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


async def test_what_only_tells_how_a_raise_goes_is_recorded_after_what_is_to_be_written() -> None:
    """Each record is a request that the second half would wait for."""
    world = raised(World(governing()))
    await reconciled(world)
    world.turn()
    before = len(world.done)
    await reconciled(world)
    last = max(number for number, step in enumerate(world.done) if isinstance(step, Write))
    told = next(number for number, step in enumerate(world.done) if isinstance(step, Record) and number >= before)
    assert before <= last < told


async def test_the_first_write_is_told_with_its_own_moment_and_not_with_that_of_the_last_one() -> None:
    """What an API server and the pace of writes make of many targets must not look as if the first had come late."""
    world = raised(World(governing()))

    def second_by_second() -> None:
        world.now_s += 1

    world.fault = second_by_second
    await reconciled(world)
    progress = world.state.spikes["a"].progress
    assert progress.decided_s is not None
    assert progress.first_write_s is not None
    moments = [each.applied_s for each in progress.claims if each.applied_s is not None]
    assert progress.decided_s < progress.first_write_s <= min(moments) < max(moments) < world.clock()


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


@pytest.mark.parametrize("wants", [None, 0])
async def test_a_target_that_is_not_at_its_floor_yet_is_raised_from_there(wants: int | None) -> None:
    """As right after an install, which leaves the number of pods to the autoscaler."""
    world = World(governing())
    world.scale(world.state.targets[WEB], wants=wants)
    world.show(dataclasses.replace(world.state.targets[WEB], replicas=1, ready=1))
    await run_for(raised(world), 15)
    assert bounds(world)["web"][:2] == (30, 30)


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


@pytest.mark.promise("OPERATOR-8")
async def test_a_stricter_policy_whose_spike_comes_later_takes_nothing_of_what_is_raised_already() -> None:
    """Its own spike gets what it lets a target have; it is not to end another's at one blow."""
    strict = governing("strict")
    scales = [dataclasses.replace(each, max=12) for each in strict.policy.scales]
    world = raised(World(governing()))
    await run_for(world, 15)
    before = bounds(world)
    world.govern(dataclasses.replace(strict, policy=dataclasses.replace(strict.policy, scales=scales)))
    raised(world, "b", policy="strict")
    for _ in range(15):
        await run_for(world, 1)
        assert bounds(world) == before
    assert {claim.desired for claim in world.state.spikes["b"].progress.claims} == {12}
    world.delete("a")
    await run_for(world, 5)
    assert {name: each[0] for name, each in bounds(world).items()} == {"web": 12, "readers": 12, "workers": 12}


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


async def test_nothing_is_left_to_do_once_it_is_done() -> None:
    world = raised(World(governing()))
    await run_for(world, 10)
    done = len(world.done)
    await reconciled(world)
    assert len(world.done) == done
