"""What becomes of spikes that are over, or that the operator has let go, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import Mode
from groundswell_operator.reconciling import IDLE_S, Reconciler
from groundswell_operator.saga.state import Pauses, Phase
from groundswell_operator.saga.steps import Free, LetGo, Write
from tests.operators.passing import BEFORE, METRICS, bounds, phase, raised, reconciled, run_for
from tests.operators.world import BUDGET, WEB, World, governing, spike


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


async def test_a_spike_that_waits_with_the_finalizer_goes_at_once_and_nobody_is_told_that_it_was_restored() -> None:
    """It was never raised; the bridge makes most with the finalizer."""
    world = World(governing(budget=dataclasses.replace(BUDGET, concurrent_spikes_max=1)))
    await reconciled(raised(raised(world, "a", views=9, held=True), "waits", views=1, held=True))
    assert [phase(world, name) for name in ("a", "waits")] == [Phase.RAISING, Phase.PENDING]
    world.delete("waits")
    await reconciled(world)
    assert [*world.state.spikes] == ["a"]
    assert [step.told for step in world.done if isinstance(step, LetGo)] == [()]
    assert not world.state.policies["default"].notes.dismissed, "its next record makes it anew"


@pytest.mark.parametrize("only_observes", [True, False])
async def test_a_spike_that_nobody_will_raise_loses_the_finalizer_that_it_was_made_with(only_observes: bool) -> None:
    world = World(governing(mode=Mode.OBSERVE)) if only_observes else World()
    await run_for(raised(world, held=True), 2)
    assert not world.state.spikes["a"].held


async def test_a_thousand_that_wait_with_the_finalizer_and_are_deleted_keep_no_raise_waiting() -> None:
    world = World(governing())
    for number in range(1_000):
        name = f"s{number}"
        world.put(dataclasses.replace(spike(name, world.clock(), held=True), deleted_s=world.clock()))
    await reconciled(raised(world, held=True))
    first = next(number for number, step in enumerate(world.done) if isinstance(step, LetGo))
    assert max(number for number, step in enumerate(world.done) if isinstance(step, Write)) < first
    for _ in range(150):
        await reconciled(world)
    assert [*world.state.spikes] == ["a"]


async def test_a_deleted_spike_that_is_over_is_let_go_and_not_freed() -> None:
    world = raised(World(governing()))
    over = dataclasses.replace(world.state.spikes["a"].progress, phase=Phase.RESTORED, mode=Mode.ENFORCE)
    world.put(dataclasses.replace(world.state.spikes["a"], progress=over, held=True, deleted_s=world.clock()))
    await reconciled(world)
    assert [type(step) for step in world.done if isinstance(step, Free | LetGo)] == [LetGo]
    assert bounds(world) == BEFORE


async def kept_by_somebody_else() -> World:
    """A raise that was given back, whose deleted spike somebody else's finalizer keeps."""
    world = raised(World(governing()))
    await run_for(world, 10)
    lived = world.state.spikes["a"]
    world.delete("a")
    await run_for(world, 2)
    assert not world.state.spikes
    gone = dataclasses.replace(lived, deleted_s=world.clock(), held=False, other_finalizers=["test.example/kept"])
    world.put(gone)
    return world


async def test_a_deleted_spike_that_somebody_elses_finalizer_keeps_counts_for_nothing_any_more() -> None:
    world = await kept_by_somebody_else()
    reconciler = Reconciler(world, METRICS, world.clock)
    await reconciler.reconcile()
    assert reconciler.pause_s == IDLE_S, "nothing is due for it by the clock"
    notes = world.state.policies["default"].notes
    assert (notes.phase, notes.active, notes.budget.extra_replicas) == ("Idle", 0, 0)
    assert bounds(world) == BEFORE


async def test_what_was_before_a_spike_that_somebody_elses_finalizer_keeps_is_no_later_ones_baseline() -> None:
    world = await kept_by_somebody_else()
    world.scale(world.state.targets[WEB], floor=6, wants=6)
    await run_for(world, 2)
    await run_for(raised(world, "b"), 10)
    (claim,) = [each for each in world.state.spikes["b"].progress.claims if each.target == WEB]
    assert (claim.baseline.replicas, claim.baseline.floor, claim.desired) == (6, 6, 60)


@pytest.mark.promise("OPERATOR-7")
async def test_what_a_deleted_spike_still_holds_counts_against_the_budget() -> None:
    """A target is paused, so its pods stay until the finalizer is given up: nobody gets them a second time."""
    world = raised(World(governing()))
    await run_for(world, 10)
    world.show(dataclasses.replace(world.state.targets[WEB], pauses=Pauses(scale_in=True)))
    world.delete("a")
    await run_for(world, 2)
    assert bounds(world)["readers"] == BEFORE["readers"]
    assert world.state.policies["default"].notes.budget.extra_replicas == 27
    world.show(dataclasses.replace(world.state.targets[WEB], pauses=Pauses()))
    await run_for(world, 2)
    assert bounds(world) == BEFORE
    assert world.state.policies["default"].notes.budget.extra_replicas == 0
