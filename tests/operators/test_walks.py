"""The saga, walked through interleavings of everything that can go wrong, over a namespace in memory (`world`). Of a walk that fails the
seed is told."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing
import os
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import pytest

from groundswell_operator.applying.errors import Away, Conflict, Refused, RequestFailed
from groundswell_operator.planning.raising import Baseline
from groundswell_operator.policies import Target
from groundswell_operator.saga import claims
from groundswell_operator.saga.deciding import GIVE_UP_S
from groundswell_operator.saga.state import OVER, Claim, Governing, Scaled
from groundswell_operator.saga.steps import Write
from tests.operators.passing import Process, flags, raised, reconciled
from tests.operators.world import BUDGET, READERS, VALUES, WEB, Crash, World, faults, governed_by_keda, telling

WALKS = int(os.environ.get("GROUNDSWELL_SAGA_WALKS", "60"))
"""How many interleavings are walked; 10,000 take from five to fifteen minutes of one core."""
STUCK_WALKS = -(-WALKS // 5)
PART = 250
"""Walks that one process makes in a row."""
RATE = 0.06
TURNS, SETTLE_TURNS = 40, 60
MORE, ORDINARY = (0, 2, 25), (0, 2)
"""How much more than before the load may call for: while spikes come, above a ceiling too, and in the end."""
SEED = 20_261_125


@pytest.mark.promise("OPERATOR-5")
def test_whatever_happens_between_any_two_steps_there_is_one_baseline_and_all_of_it_comes_back() -> None:
    """Spikes come, end and are deleted, while every read and write may crash, conflict, be throttled, fail, or find the Lease lost."""
    _walked(_walk, WALKS)


async def test_a_saga_that_forgets_what_was_there_before_fails_its_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each look takes what is there for the baseline."""

    def forgetting(claim: Claim, scaled: Scaled, _: int) -> Claim:
        return dataclasses.replace(claim, baseline=claims.current(scaled))

    async def walk_all() -> None:
        for number in range(WALKS):
            await _walk(random.Random(SEED + number))

    monkeypatch.setattr(claims, "rebased", forgetting)
    with pytest.raises(AssertionError):
        await walk_all()


@pytest.mark.promise("OPERATOR-12")
def test_a_target_that_can_never_be_written_again_keeps_nothing_else_waiting_and_its_spikes_are_given_up() -> None:
    """The same, while from some moment on every write to one target is refused, not answered, or too late."""
    _walked(_walk_with_a_stuck_target, STUCK_WALKS)


Walk = Callable[[random.Random], Coroutine[object, object, None]]


def _walked(walk: Walk, walks: int) -> None:
    """In as many processes as there are cores; raises what the first walk that fails does, with its seed."""
    parts = [range(first, min(first + PART, walks)) for first in range(0, walks, PART)]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_walk_on, repeat(walk), parts))


def _walk_on(walk: Walk, numbers: range) -> None:
    logging.disable()  # of faults that are meant, a million lines
    for number in numbers:
        try:
            asyncio.run(walk(random.Random(SEED + number)))
        except BaseException as failure:
            failure.add_note(f"the walk with seed {SEED + number} failed")
            raise


async def _walk(chance: random.Random) -> None:
    world = World(_telling(chance))
    if chance.random() < 0.5:
        world.show(governed_by_keda().state.targets[WEB])
    before = _now(world)
    baselines: dict[tuple[str, str], object] = {}
    for turn in range(TURNS):
        world.fault = faults(chance, RATE)
        _happens(world, chance, turn)
        if chance.random() < 0.1:
            _wants(world, chance, before, chance.choice((WEB, READERS)), MORE)
        await _attempted(world)
        _check(world, baselines, before)
    world.fault = lambda: None
    for target in (WEB, READERS):
        _wants(world, chance, before, target, ORDINARY)
    for name in list(world.state.spikes):
        world.over(name)
    for _ in range(SETTLE_TURNS):
        is_over = all(each.progress.phase in OVER for each in world.state.spikes.values())
        world.now_s += 10
        world.turn()
        await reconciled(world)
        if is_over:
            break  # and the autoscalers have looked since
    assert _now(world) == _settled(world, before)
    assert flags(world) == {**VALUES, **world.set_by_others}
    assert all(each.progress.phase in OVER and not each.held for each in world.state.spikes.values())
    told = {name for name, _ in world.notices}
    assert {name for name, each in world.state.spikes.items() if each.acts} <= told


def _telling(chance: random.Random) -> Governing:
    """A policy whose budget covers all, or what some of the targets ask for, until one is given back."""
    found = telling()
    budget = dataclasses.replace(BUDGET, extra_replicas_max=chance.choice((BUDGET.extra_replicas_max, 40)))
    return dataclasses.replace(found, policy=dataclasses.replace(found.policy, budget=budget))


async def _walk_with_a_stuck_target(chance: random.Random) -> None:
    world, begins = World(telling()), chance.randrange(TURNS // 2)
    stuck = chance.choice(sorted(world.state.targets, key=lambda each: each.name))
    before = _now(world)
    failure = chance.choice(
        [Refused(403, "denied"), Away("500: failed calling webhook", 1.0), Conflict("somebody writes it all the time")]
    )
    process = Process(world)
    baselines: dict[tuple[str, str], object] = {}
    for turn in range(TURNS):
        if turn == begins:
            world.fails = lambda step: failure if isinstance(step, Write) and step.scaled.target == stuck else None
        world.fault = faults(chance, RATE)
        _happens(world, chance, turn)
        if chance.random() < 0.1:
            _wants(world, chance, before, chance.choice((WEB, READERS)), MORE)
        await process.attempt()
        _check(world, baselines, before, stuck)
    world.fault = lambda: None
    for target in (WEB, READERS):
        _wants(world, chance, before, target, ORDINARY)
    for name in list(world.state.spikes):
        world.over(name)
    for _ in range(SETTLE_TURNS):
        world.now_s += 10
        world.turn()
        await process.attempt()
    assert _now(world, stuck) == _settled(world, before, stuck)
    assert flags(world) == {**VALUES, **world.set_by_others}
    for name in list(world.state.spikes):
        world.delete(name)
    world.now_s += GIVE_UP_S
    for _ in range(2):  # after which nothing is left to be looked at
        await process.attempt()
    assert not world.state.spikes


async def _attempted(world: World) -> None:
    """One pass of a process that begins anew whatever became of the last."""
    try:
        await reconciled(world)
    except (Crash, RequestFailed):
        return


def _happens(world: World, chance: random.Random, turn: int) -> None:
    world.now_s += chance.choice((0.1, 1, 5, 20))
    if chance.random() < 0.5:
        world.turn()
    if chance.random() < 0.25 or turn == 0:
        raised(world, f"s{turn}", views=chance.randrange(10), held=chance.random() < 0.5)
    if chance.random() < 0.1:
        world.sets(ttl=str(turn + 100))
    if world.state.spikes and chance.random() < 0.1:
        world.over(chance.choice(sorted(world.state.spikes)))
    if world.state.spikes and chance.random() < 0.1:
        world.delete(chance.choice(sorted(world.state.spikes)))


def _wants(
    world: World, chance: random.Random, before: Mapping[str, Baseline], target: Target, more: Sequence[int]
) -> None:
    """The load of a target changes, to so much more than there was before."""
    world.scale(world.state.targets[target], wants=before[target.name].replicas + chance.choice(more))


def _now(world: World, but: Target | None = None) -> dict[str, Baseline]:
    return {target.name: claims.current(scaled) for target, scaled in world.state.targets.items() if target != but}


def _settled(world: World, before: Mapping[str, Baseline], but: Target | None = None) -> dict[str, Baseline]:
    """What was there before, with the replicas that the present load calls for."""
    wants = {
        target.name: scaled.autoscaler.wants if scaled.autoscaler else None
        for target, scaled in world.state.targets.items()
        if target != but
    }
    return {
        name: dataclasses.replace(before[name], replicas=each or before[name].replicas) for name, each in wants.items()
    }


def _check(
    world: World, baselines: dict[tuple[str, str], object], before: Mapping[str, Baseline], stuck: Target | None = None
) -> None:
    """One baseline for each claim, nothing above its maximum, nothing below what was there before; but where a raise was given up."""
    for each in world.state.spikes.values():
        for claim in each.progress.claims:
            known = baselines.setdefault((each.name, claim.action), claim.baseline)
            assert claim.baseline == known
            assert _is_of(before[claim.target.name], claim.baseline) or claim.target == stuck
    for target, scaled in world.state.targets.items():
        if target == stuck:
            continue
        most = before[target.name].replicas + (max(MORE) if scaled.autoscaler else 0)
        assert before[target.name].replicas <= scaled.replicas <= 10 * most


def _is_of(before: Baseline, baseline: Baseline) -> bool:
    """Whether a baseline is what was there before, but for the replicas that the load called for meanwhile."""
    more = baseline.replicas - before.replicas
    most = max(MORE) if before.floor is not None else 0
    return dataclasses.replace(baseline, replicas=before.replicas) == before and 0 <= more <= most
