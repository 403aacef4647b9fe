"""What a policy's annotations, mode and ways of scaling make of a spike, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.planning.raising import SetScale
from groundswell_operator.policies import Mode, Via
from groundswell_operator.saga.state import Pauses, Phase
from tests.operators.passing import BEFORE, bounds, phase, raised, run_for, writes
from tests.operators.world import WORKERS, World, governing


def said(world: World, condition: str) -> tuple[bool, str]:
    """Of the policy: status and message."""
    found = world.state.policies["default"].notes.conditions[condition]
    return found.status, found.message


async def test_a_policy_that_may_not_raise_says_so_and_raises_once_it_may() -> None:
    paused = dataclasses.replace(governing(), pauses=Pauses(scale_out=True))
    world = World(paused)
    await run_for(raised(world), 20)
    assert bounds(world) == BEFORE
    assert said(world, "Paused") == (True, "nothing is scaled out")
    world.govern(governing())
    await run_for(world, 20)
    assert bounds(world)["web"] == (30, 30, 30)
    assert said(world, "Paused") == (False, "")


async def test_a_policy_that_may_not_take_back_says_so_and_takes_back_once_it_may() -> None:
    world = World(governing())
    await run_for(raised(world), 40)
    high = bounds(world)
    world.govern(dataclasses.replace(governing(), pauses=Pauses(scale_in=True)))
    world.over("a")
    await run_for(world, 300)
    assert bounds(world) == high
    assert said(world, "Paused") == (True, "nothing is scaled in")
    world.govern(governing())
    await run_for(world, 200)
    assert bounds(world) == BEFORE
    assert phase(world) is Phase.RESTORED


@pytest.mark.promise("OPERATOR-6")
@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
async def test_a_policy_says_whether_it_only_observes(mode: Mode) -> None:
    world = World(governing(mode=mode))
    await run_for(world, 2)
    assert said(world, "DryRun")[0] == (mode is Mode.OBSERVE)


async def test_what_is_scaled_by_its_scale_alone_must_have_no_autoscaler() -> None:
    found = governing()
    scales = [dataclasses.replace(each, via=Via.SCALE_SUBRESOURCE) for each in found.policy.scales]
    world = World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, scales=scales)))
    await run_for(raised(world), 20)
    assert writes(world, WORKERS) == [SetScale(20)]
    assert (bounds(world)["web"], bounds(world)["readers"]) == (BEFORE["web"], BEFORE["readers"])
    status, message = said(world, "Ready")
    assert not status
    assert "an autoscaler governs web: it is raised by its floor only" in message
