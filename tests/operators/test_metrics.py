"""What the operator tells of itself in numbers."""

from __future__ import annotations

import dataclasses

from groundswell_operator.metrics import Metrics
from tests.operators.passing import raised, run_for
from tests.operators.world import World, governing


async def test_a_policy_is_told_with_what_it_holds_and_may_spend_until_it_is_gone() -> None:
    world, metrics = raised(World(governing())), Metrics()
    await run_for(world, 5)
    metrics.state(world.state)
    minutes = world.state.policies["default"].policy.budget.replica_minutes_day_max
    assert f'groundswell_operator_budget_replica_minutes_max{{policy="default"}} {float(minutes)}' in _lines(metrics)
    wanted = sum(each.desired for each in world.state.spikes["a"].progress.claims)
    assert f'groundswell_operator_replicas_wanted{{policy="default"}} {float(wanted)}' in _lines(metrics)
    metrics.state(dataclasses.replace(world.state, policies={}))
    assert not [line for line in _lines(metrics) if 'policy="default"' in line]


def test_what_a_watch_told_of_last_has_its_time() -> None:
    metrics = Metrics()
    metrics.heard("viralspikes")
    assert [line for line in _lines(metrics) if "watch_heard_timestamp_seconds{" in line and "viralspikes" in line]


def _lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()
