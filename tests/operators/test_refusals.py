"""Steps that the API server does not take, over a namespace in memory (`world`): everything that does not rest on them goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from groundswell_operator.applying.errors import Refused, RequestFailed
from groundswell_operator.planning.raising import SetFloor
from groundswell_operator.policies import Mode, OnExhausted, Target
from groundswell_operator.saga.state import Phase
from groundswell_operator.saga.steps import Hold, Record, Step, Write
from tests.operators.passing import (
    BEFORE,
    bounds,
    deleted_and_given_up,
    flags,
    phase,
    raised,
    reconciled,
    run_for,
    writes,
)
from tests.operators.world import BUDGET, READERS, VALUES, WEB, World, governing, telling

Failing = Callable[[Step], RequestFailed | None]


def refusing(target: Target) -> Failing:
    """What an admission webhook does that lets nobody change a target's autoscaler."""

    def fails(step: Step) -> RequestFailed | None:
        refused = isinstance(step, Write) and step.scaled.target == target
        return Refused(403, "denied the request") if refused else None

    return fails


def unrecorded(*names: str) -> Failing:
    """What a schema does that lets nobody write the status of these spikes."""

    def fails(step: Step) -> RequestFailed | None:
        return Refused(422, "invalid") if isinstance(step, Record) and step.spike.name in names else None

    return fails


@pytest.mark.promise("OPERATOR-12")
async def test_the_finalizer_is_given_up_after_five_minutes_when_the_return_is_refused() -> None:
    world = raised(World(governing()))
    await run_for(world, 5)
    world.fails = refusing(WEB)
    await deleted_and_given_up(world)


async def test_policies_and_other_spikes_are_told_of_though_a_write_is_refused() -> None:
    world = raised(World(governing()))
    world.fails = refusing(WEB)
    await run_for(world, 5)
    assert world.state.policies["default"].notes.phase == "Active"
    assert bounds(world)["readers"][0] == 20
    await run_for(raised(world, "late", policy="nobody's"), 2)
    assert world.state.spikes["late"].progress.conditions["Admitted"].reason == "NoPolicy"


async def test_a_scale_is_not_written_where_its_floor_was_refused() -> None:
    world = raised(World(governing()))

    def fails(step: Step) -> RequestFailed | None:
        return Refused(403, "no") if isinstance(step, Write) and isinstance(step.change, SetFloor) else None

    world.fails = fails
    await run_for(world, 3)
    assert bounds(world) == {**BEFORE, "workers": (11, None, None)}  # its second half waits for the readers


async def test_a_record_that_is_refused_withholds_the_writes_that_rest_on_it_and_no_others() -> None:
    other = governing("other")
    scales = [each for each in other.policy.scales if each.target == READERS]
    world = World(telling(), dataclasses.replace(other, policy=dataclasses.replace(other.policy, scales=scales)))
    await run_for(raised(world), 5)
    world.fails = unrecorded("a")
    world.scale(world.state.targets[WEB], floor=5, floor_ours=False)
    world.sets(ttl="7")
    before = len(writes(world, WEB))
    await run_for(world, 5)
    assert len(writes(world, WEB)) == before  # the 5 that is about to be overwritten is recorded nowhere
    assert flags(world)["ttl"] == "7"
    world.fails = lambda _: None
    await run_for(world, 2)
    assert bounds(world)["web"][1] == 30
    world.delete("a")
    await run_for(world, 2)
    assert bounds(world)["web"][1] == 5
    assert flags(world) == {**VALUES, "ttl": "7"}


@pytest.mark.parametrize("kind", [Hold, Record])
async def test_a_spike_that_cannot_be_recorded_keeps_no_other_from_its_place(kind: type[Hold | Record]) -> None:
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=1, on_exhausted=OnExhausted.CLAMP)
    world = raised(World(governing(budget=budget)), "big", views=9)
    raised(world, "small", views=1)

    def fails(step: Step) -> RequestFailed | None:
        return Refused(422, "invalid") if isinstance(step, kind) and step.spike.name == "big" else None

    world.fails = fails
    await run_for(world, 5)
    assert phase(world, "small") is Phase.HOLDING
    assert phase(world, "big") is Phase.PENDING
    assert bounds(world)["web"][0] == 30


async def test_nine_records_that_are_refused_keep_no_tenth_waiting() -> None:
    world = World(governing())
    for number in range(30):
        raised(world, f"s{number:02}", policy="nobody's")
    world.fails = unrecorded(*(f"s{number:02}" for number in range(29)))
    await reconciled(world)
    assert world.state.spikes["s29"].progress.conditions["Admitted"].reason == "NoPolicy"


async def test_a_leader_whose_clock_is_behind_that_of_the_last_counts_nothing_below_zero() -> None:
    world = raised(World(governing(mode=Mode.OBSERVE)))
    await run_for(world, 2)
    world.now_s -= 3_600
    world.scale(world.state.targets[WEB], wants=9)
    await run_for(world, 5)
    seen = [each.would_have for each in world.state.spikes["a"].progress.claims]
    assert all(each is not None and each.planned_replica_s >= 0 and each.replica_s >= 0 for each in seen)
