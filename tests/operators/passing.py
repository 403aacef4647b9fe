"""The operator over a namespace in memory (`world`), second by second."""

from __future__ import annotations

from collections.abc import Mapping

from groundswell_operator.metrics import Metrics
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Target
from groundswell_operator.reconciling import Reconciler
from groundswell_operator.saga.state import Phase, Scaled
from groundswell_operator.saga.steps import Write
from tests.operators.world import FLAGS, World, spike, targets

METRICS = Metrics()


async def reconciled(world: World) -> None:
    reconciler = Reconciler(world, METRICS, world.clock)
    try:
        await reconciler.reconcile()
    finally:
        await reconciler.settled()


async def run_for(world: World, seconds: int) -> None:
    """The namespace and the operator, second by second."""
    for _ in range(seconds):
        world.now_s += 1
        world.turn()
        await reconciled(world)


def raised(world: World, name: str = "a", **words: object) -> World:
    world.put(spike(name, world.clock(), **words))  # type: ignore[arg-type]  # of its parameters
    return world


def bounds(world: World) -> dict[str, tuple[int, int | None, int | None]]:
    """Replicas, floor and ceiling of each target."""
    return {target.name: bounds_of(scaled) for target, scaled in world.state.targets.items()}


def bounds_of(scaled: Scaled) -> tuple[int, int | None, int | None]:
    scaler = scaled.autoscaler
    return scaled.replicas, scaler.floor if scaler else None, scaler.ceiling if scaler else None


BEFORE = {target.name: bounds_of(scaled) for target, scaled in targets().items()}


def phase(world: World, name: str = "a") -> Phase:
    return world.state.spikes[name].progress.phase


def writes(world: World, target: Target) -> list[SetFloor | SetScale]:
    found = [each for each in world.done if isinstance(each, Write) and each.scaled.target == target]
    return [each.change for each in found if isinstance(each.change, SetFloor | SetScale)]


def flags(world: World) -> Mapping[str, str]:
    return world.state.config_maps[FLAGS].data
