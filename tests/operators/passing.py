"""The operator over a namespace in memory (`world`), second by second."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest

from groundswell_operator import reconciling
from groundswell_operator.applying.errors import Away, NotLeading, RequestFailed
from groundswell_operator.metrics import Metrics
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Target
from groundswell_operator.reconciling import Reconciler
from groundswell_operator.saga.state import Phase, Scaled
from groundswell_operator.saga.steps import LetGo, Record, Write
from tests.operators.world import FLAGS, Crash, World, spike, targets

METRICS = Metrics()


async def reconciled(world: World) -> None:
    """One pass of a process of its own, which takes its time: on a starved machine it would leave something to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciling, "PASS_S_MAX", math.inf)
        await _pass(Reconciler(world, METRICS, world.clock))


async def _pass(reconciler: Reconciler) -> None:
    try:
        await reconciler.reconcile()
    finally:
        await reconciler.settled()


class Process:
    """The passes of one process; after a crash, or once it does not lead any more, those of the next."""

    def __init__(self, world: World) -> None:
        self._world, self._reconciler = world, Reconciler(world, METRICS, world.clock)

    async def attempt(self) -> None:
        """One pass, whatever becomes of it."""
        try:
            await _pass(self._reconciler)
        except (Crash, NotLeading):
            self._reconciler = Reconciler(self._world, METRICS, self._world.clock)
        except RequestFailed:
            return

    async def run_for(self, seconds: int) -> None:
        """As below, by this process."""
        for _ in range(seconds):
            self._world.now_s += 1
            self._world.turn()
            await self.attempt()


async def run_for(world: World, seconds: int) -> None:
    """The namespace and the operator, second by second."""
    for _ in range(seconds):
        world.now_s += 1
        world.turn()
        await reconciled(world)


def raised(world: World, name: str = "a", **words: object) -> World:
    world.put(spike(name, world.clock(), **words))  # type: ignore[arg-type]  # of its parameters
    return world


def answer_lost(world: World, name: str) -> Callable[[], None]:
    """A fault: what is recorded of a spike lands, and the first time nobody hears that it did."""
    answers = iter([Away("500", 1.0)])

    def fault() -> None:
        last = world.done[-1] if world.done else None
        if isinstance(last, Record) and last.spike.name == name and (lost := next(answers, None)):
            raise lost

    return fault


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


async def deleted_and_given_up(world: World) -> None:
    """Deletes a spike whose raise of web cannot be taken back: after five minutes, and no sooner, it is let go; the readers come back."""
    world.delete("a")
    await run_for(world, 295)
    assert world.state.spikes
    assert bounds(world)["readers"] == BEFORE["readers"]
    await run_for(world, 10)
    assert not world.state.spikes
    assert bounds(world)["web"][1] == 30
    assert [each.condition.reason for step in world.done if isinstance(step, LetGo) for each in step.told] == [
        "GivenUp"
    ]
