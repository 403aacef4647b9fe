"""When the record of a spike that is over is removed, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import OnExhausted
from groundswell_operator.saga.state import Phase
from tests.operators.passing import phase, raised, run_for
from tests.operators.world import BUDGET, World, governing

LASTS_S = BUDGET.spike_duration_s_max
RETURN_S = 100
"""In which a raise is taken back, and a little more."""


def keeping(kept_s: int) -> World:
    """A policy that has room for one spike, refuses others, and keeps records for so long."""
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=1, on_exhausted=OnExhausted.REJECT)
    found = governing(budget=budget)
    return World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, kept_s=kept_s)))


@pytest.mark.parametrize("kept_s", [0, 500])
async def test_a_spike_that_was_said_to_be_over_is_removed_once_its_policy_keeps_it_no_longer(kept_s: int) -> None:
    world = raised(keeping(kept_s))
    await run_for(world, 40)
    world.over("a")
    await run_for(world, 2 * RETURN_S)
    assert [each.progress.phase for each in world.state.spikes.values()] == ([Phase.RESTORED] if kept_s else [])
    await run_for(world, kept_s)
    assert not world.state.spikes


async def test_a_spike_that_was_refused_stays_for_as_long_as_one_may_last_though_its_policy_keeps_none() -> None:
    """Its next record would make it anew, and that would be refused and removed without end."""
    world = raised(raised(keeping(0)), "b", views=1)
    await run_for(world, RETURN_S)
    world.now_s += LASTS_S - 2 * RETURN_S
    await run_for(world, 1)
    assert phase(world, "b") is Phase.REJECTED
    world.now_s += 2 * RETURN_S
    await run_for(world, 1)
    assert "b" not in world.state.spikes


async def test_a_spike_that_has_lasted_too_long_stays_for_as_long_again_though_its_policy_keeps_none() -> None:
    """Its next record would make it anew, and it would be raised beyond the longest duration."""
    world = raised(keeping(0))
    await run_for(world, 40)
    world.now_s += LASTS_S
    await run_for(world, RETURN_S)
    assert phase(world) is Phase.RESTORED
    assert world.state.spikes["a"].progress.conditions["Restored"].reason == "BaselineRestored"
    world.now_s += LASTS_S - 2 * RETURN_S
    await run_for(world, 1)
    assert phase(world) is Phase.RESTORED
    world.now_s += 2 * RETURN_S
    await run_for(world, 1)
    assert not world.state.spikes
