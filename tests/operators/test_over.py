"""What becomes of spikes that are over, or that the operator has let go, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import Mode
from groundswell_operator.saga.state import Phase
from groundswell_operator.saga.steps import Free, LetGo, Write
from tests.operators.passing import BEFORE, bounds, phase, raised, reconciled, run_for
from tests.operators.world import World, governing, spike


@pytest.mark.promise("OPERATOR-12")
async def test_a_spike_that_is_over_keeps_its_record_and_no_finalizer() -> None:
    """Nobody would be left to take it away once the operator is gone, and the namespace could never be deleted."""
    world = raised(World(governing()))
    await run_for(world, 40)
    assert world.state.spikes["a"].held
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert not world.state.spikes["a"].held
    assert len([step for step in world.done if isinstance(step, Free)]) == 1
    world.delete("a")
    assert not world.state.spikes, "without any operator"


async def test_what_a_policy_keeps_stays_though_the_finalizer_goes() -> None:
    found = governing()
    world = raised(World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, restores=False))))
    await run_for(world, 40)
    world.over("a")
    await run_for(world, 100)
    kept = world.state.spikes["a"]
    assert (kept.progress.is_kept, kept.held) == (True, False)
    assert bounds(world)["web"] == (30, 30, 30)


async def test_a_thousand_records_with_finalizers_of_an_operator_from_before_keep_no_raise_waiting() -> None:
    world = World(governing())
    for number in range(1_000):
        over = dataclasses.replace(spike(f"s{number}", world.clock()).progress, phase=Phase.RESTORED, mode=Mode.ENFORCE)
        world.put(dataclasses.replace(spike(f"s{number}", world.clock()), progress=over, held=True))
    await reconciled(raised(world))
    first = next(number for number, step in enumerate(world.done) if isinstance(step, Free))
    assert max(number for number, step in enumerate(world.done) if isinstance(step, Write)) < first
    for _ in range(150):
        await reconciled(world)
    assert [name for name, each in world.state.spikes.items() if each.held] == ["a"]


async def test_a_deleted_spike_that_is_over_is_let_go_and_not_freed() -> None:
    world = raised(World(governing()))
    over = dataclasses.replace(world.state.spikes["a"].progress, phase=Phase.RESTORED, mode=Mode.ENFORCE)
    world.put(dataclasses.replace(world.state.spikes["a"], progress=over, held=True, deleted_s=world.clock()))
    await reconciled(world)
    assert [type(step) for step in world.done if isinstance(step, Free | LetGo)] == [LetGo]
    assert bounds(world) == BEFORE
