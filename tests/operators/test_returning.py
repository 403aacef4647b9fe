"""How what was raised is given back, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.applying.errors import Refused
from groundswell_operator.planning.raising import SetFloor
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.spikes import UNWRITTEN_S
from groundswell_operator.saga.state import Autoscaler, Pauses, Phase
from groundswell_operator.saga.steps import LetGo, Note, Step, Write
from tests.operators.passing import (
    BEFORE,
    bounds,
    deleted_and_given_up,
    flags,
    phase,
    raised,
    reconciled,
    run_for,
)
from tests.operators.world import BUDGET, READERS, VALUES, WEB, WORKERS, World, governing, telling


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
async def test_steps_that_could_not_be_written_for_a_while_are_not_written_as_one() -> None:
    """Whether writes are refused or their operator dies before each of them: records were taken, and the floor stood still."""
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    world.fails = lambda step: Refused(403, "not now") if isinstance(step, Write) else None
    await run_for(world, 100)
    assert bounds(world)["web"][1] == 30
    world.fails = lambda _: None
    await run_for(world, 200)
    changes = [step.change for step in world.done if isinstance(step, Write) and step.scaled.target == WEB]
    floors = [change.floor for change in changes if isinstance(change, SetFloor)]
    assert floors[-6:] == [17, 10, 7, 5, 4, 3]
    assert bounds(world) == BEFORE
    assert phase(world) is Phase.RESTORED


@pytest.mark.promise("OPERATOR-12")
async def test_a_step_of_another_spike_that_can_never_be_written_keeps_nobodys_config_maps() -> None:
    world = raised(raised(World(telling())), "b")
    await run_for(world, 40)
    mine = world.state.spikes["a"]
    lower = [dataclasses.replace(each, desired=12) if each.target == WEB else each for each in mine.progress.claims]
    less = dataclasses.replace(mine, progress=dataclasses.replace(mine.progress, claims=lower))
    world.state = dataclasses.replace(world.state, spikes={**world.state.spikes, "a": less})
    world.fails = lambda step: Refused(403, "no") if isinstance(step, Write) and step.scaled.target == WEB else None
    world.delete("b")
    await run_for(world, 10)
    assert bounds(world)["web"][1] == 30
    world.over("a")
    await run_for(world, 100)
    assert flags(world) != VALUES
    await run_for(world, int(UNWRITTEN_S))
    assert flags(world) == VALUES


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


@pytest.mark.promise("OPERATOR-8")
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_target_that_somebody_gives_an_autoscaler_meanwhile_is_left_to_it_and_named(deleted: bool) -> None:
    """Its floor is what we had raised the replicas to, so they stay as we wrote them last, and nobody has to give them back."""
    world = raised(World(governing()))
    await run_for(world, 40)
    scaler = Autoscaler("workers", "1", floor=20, ceiling=40, wants=2)
    world.show(dataclasses.replace(world.state.targets[WORKERS], autoscaler=scaler))
    if deleted:
        world.delete("a")
    else:
        world.over("a")
    await run_for(world, 200)
    assert bounds(world) == {**BEFORE, "workers": (20, 20, 40)}
    if deleted:
        assert not world.state.spikes
        return
    assert phase(world) is Phase.RESTORED
    restored = world.state.spikes["a"].progress.conditions["Restored"]
    assert (restored.status, restored.reason) == (False, "BaselineChanged")
    assert "workers" in restored.message


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
