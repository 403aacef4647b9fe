"""What keeps a spike from its replicas, or from being heard of, over a namespace in memory (`world`): it is said, and the rest goes on."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.saga.conditions import with_condition
from groundswell_operator.saga.state import Condition, Phase, Shortfall
from groundswell_operator.saga.steps import Record
from tests.operators.passing import BEFORE, bounds, phase, raised, run_for
from tests.operators.world import BUDGET, READERS, WEB, WORKERS, World, governing


async def test_a_missing_target_leaves_the_others_to_go_on() -> None:
    world = World(governing())
    gone = {target: scaled for target, scaled in world.state.targets.items() if target != WEB}
    world.state = dataclasses.replace(world.state, targets=gone)
    await run_for(raised(world), 5)
    assert bounds(world)["readers"][0] == 20
    ready = world.state.policies["default"].notes.conditions["Ready"]
    assert (ready.status, ready.message) == (False, "Deployment web does not exist")


@pytest.mark.promise("OPERATOR-11")
@pytest.mark.parametrize(("partitions", "replicas", "reached"), [(12, 12, True), (30, 30, False), (2, 3, True)])
async def test_consumers_are_never_raised_above_their_partitions_and_the_policy_says_when_that_bites(
    partitions: int, replicas: int, reached: bool
) -> None:
    world = World(governing())
    world.show(dataclasses.replace(world.state.targets[WEB], partitions=partitions))
    await run_for(raised(world), 15)
    assert bounds(world)["web"][0] == replicas
    said = world.state.policies["default"].notes.conditions["PartitionsReached"]
    assert said.status is reached
    assert said.message == (f"web gets {partitions} at most, one for each partition that it reads" if reached else "")
    world.over("a")
    await run_for(world, 200)
    assert bounds(world) == BEFORE


async def test_a_target_whose_annotated_partitions_are_no_number_is_left_alone_and_named() -> None:
    world = World(governing())
    world.show(dataclasses.replace(world.state.targets[WEB], partitions=0))
    await run_for(raised(world), 15)
    assert bounds(world)["web"] == BEFORE["web"]
    assert bounds(world)["readers"][0] == 20
    message = "the partitions that are annotated on web are no number of 1 or more"
    assert world.state.policies["default"].notes.conditions["Ready"].message == message


async def test_pods_that_do_not_come_are_told_of_with_their_numbers_and_the_others_go_on() -> None:
    world = raised(World(governing()))
    short = [Shortfall("PodsDenied", 5, "the quota is used up"), Shortfall("Unschedulable", 9, "no node has room")]
    web = world.state.targets[WEB]
    world.keeps_down = {WEB: 13}
    world.show(dataclasses.replace(web, shortfalls=short))
    await run_for(world, 20)
    degraded = world.state.spikes["a"].progress.conditions["Degraded"]
    assert (degraded.status, degraded.reason) == (True, "PodsDenied")
    assert degraded.message == (
        "5 of 30 pods of web are missing: the quota is used up; 9 of 30 pods of web are missing: no node has room"
    )
    assert {name: each[0] for name, each in bounds(world).items()} == {"web": 30, "readers": 20, "workers": 20}
    world.keeps_down = {}
    await run_for(world, 5)
    assert phase(world) is Phase.HOLDING
    assert world.state.spikes["a"].progress.conditions["Degraded"].reason == "Recovered"


async def test_a_raise_is_given_back_though_its_autoscaler_was_deleted_and_had_written_the_replicas() -> None:
    world = raised(World(governing()))
    await run_for(world, 10)
    web = world.state.targets[WEB]
    world.show(dataclasses.replace(web, autoscaler=None, replicas_ours=False, replicas_by_autoscaler=True))
    await run_for(world, 2)
    degraded = world.state.spikes["a"].progress.conditions["Degraded"]
    assert (degraded.reason, degraded.message) == ("AutoscalerGone", "the autoscaler of web is gone")
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == {**BEFORE, "web": (3, None, None)}


def heard(world: World, connected: bool, heard_s: float | None = None) -> None:
    """What the bridge says of itself."""
    held = world.state.policies["default"]
    reason = "Connected" if connected else "KafkaAway"
    said = with_condition(held.notes.conditions, "SourceConnected", connected, reason, "", world.clock())
    world.govern(dataclasses.replace(held, notes=dataclasses.replace(held.notes, conditions=said)))
    world.state = dataclasses.replace(world.state, heard_s=heard_s)


async def test_nothing_is_taken_back_while_the_log_is_away_though_the_spike_was_over() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    world.over("a")
    heard(world, connected=False)
    await run_for(world, 300)
    assert bounds(world)["web"] == (30, 30, 30)
    heard(world, connected=True)
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == BEFORE


async def test_a_bridge_that_is_silent_is_told_of_and_what_is_raised_stays_until_its_longest_duration() -> None:
    world = raised(World(governing()))
    heard(world, connected=True, heard_s=world.clock())
    await run_for(world, 29)
    assert world.state.policies["default"].notes.conditions["SourceConnected"].status
    await run_for(world, 2)
    said = world.state.policies["default"].notes.conditions["SourceConnected"]
    assert (said.status, said.reason) == (False, "BridgeSilent")
    world.over("a")
    await run_for(world, 300)
    assert bounds(world)["web"] == (30, 30, 30)
    world.now_s += BUDGET.spike_duration_s_max
    await run_for(world, 100)
    assert world.state.spikes["a"].progress.conditions["CoolingDown"].reason == "BaselineRestored"
    assert bounds(world) == BEFORE


@pytest.mark.promise("OPERATOR-7")
@pytest.mark.parametrize("reason", ["TooLong", "BudgetSpent"])
async def test_a_return_that_is_due_and_that_unknown_metrics_hold_back_is_said_and_comes_once_they_are_known(
    reason: str,
) -> None:
    """Goal: without a metrics server and without a detector a raise is neither forgotten nor taken back blindly."""
    day = 100 if reason == "BudgetSpent" else BUDGET.replica_minutes_day_max
    found = governing(budget=dataclasses.replace(BUDGET, replica_minutes_day_max=day))
    scales = [each for each in found.policy.scales if each.target != WORKERS]
    world = World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, scales=scales)))
    await run_for(raised(world), 20)
    for target in (WEB, READERS):
        world.scale(world.state.targets[target], wants=None)
    await run_for(world, 20)
    assert "Degraded" not in world.state.spikes["a"].progress.conditions
    world.now_s += BUDGET.spike_duration_s_max if reason == "TooLong" else 200
    await run_for(world, 300)
    conditions = world.state.spikes["a"].progress.conditions
    assert (conditions["Degraded"].status, conditions["Degraded"].reason) == (True, "MetricsUnknown")
    assert "readers is not lowered" in conditions["Degraded"].message
    assert bounds(world)["web"] == (30, 30, 30)
    assert [each for each in told(world) if each.type == "Degraded"] == [conditions["Degraded"]]
    for target in (WEB, READERS):
        world.scale(world.state.targets[target], wants=3)
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == BEFORE
    assert [each.reason for each in told(world) if each.type == "Degraded"] == ["MetricsUnknown", "Recovered"]
    assert reason in {each.reason for each in told(world) if each.type == "CoolingDown"}


def told(world: World) -> list[Condition]:
    """What people were told of spikes, in order."""
    return [each.condition for step in world.done if isinstance(step, Record) for each in step.told]
