"""What conditions say, and how much of it."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import Mode
from groundswell_operator.saga.conditions import MESSAGE_MAX, brief, with_condition
from groundswell_operator.saga.state import Governing, Phase
from groundswell_operator.saga.steps import Note, Record
from tests.operators.passing import phase, raised, reconciled, run_for
from tests.operators.world import World, governing


@pytest.mark.parametrize("between", [", ", "; ", " and "])
def test_a_message_of_too_many_parts_names_the_first_and_counts_the_others(between: str) -> None:
    words = [f"policy-{number:056}" for number in range(100)]
    said = brief(between.join(words))
    assert len(said) <= MESSAGE_MAX
    named, _, more = said.partition(" … and ")
    assert named.split(between) == words[: len(named.split(between))]
    assert more == f"{100 - len(named.split(between))} more"
    assert len(named) > MESSAGE_MAX / 2


def test_a_message_that_fits_is_said_whole_and_one_without_parts_is_cut() -> None:
    assert brief("web, readers") == "web, readers"
    assert brief("x" * MESSAGE_MAX) == "x" * MESSAGE_MAX
    said = brief("x" * (MESSAGE_MAX + 1))
    assert said.endswith("x…")
    assert len(said) <= MESSAGE_MAX


def test_what_was_cut_is_the_same_when_it_is_decided_again() -> None:
    long = ", ".join(f"policy-{number}" for number in range(1_000))
    once = with_condition({}, "Ready", False, "Odd", long, 1.0)
    assert with_condition(once, "Ready", False, "Odd", long, 2.0) is once


def named(number: int) -> Governing:
    """One of many over the same targets, under a name as long as names may be."""
    found = governing(f"policy-{number:056}", mode=Mode.ENFORCE)
    return dataclasses.replace(found, policy=dataclasses.replace(found.policy, scales=[*found.policy.scales] * 3))


async def test_however_many_policies_overlap_each_says_so_within_bounds_and_a_spike_is_raised() -> None:
    """Otherwise the API server would refuse policies' statuses and the spike's record, for as long as there are so many."""
    world = World(*(named(number) for number in range(100)))
    policy = next(iter(world.state.policies))
    await run_for(raised(world, policy=policy), 5)
    assert phase(world) is Phase.HOLDING
    conditions = [
        each
        for step in world.done
        if isinstance(step, Note | Record)
        for each in (step.notes if isinstance(step, Note) else step.progress).conditions.values()
    ]
    assert max(len(each.message) for each in conditions) <= MESSAGE_MAX
    assert " more" in world.state.policies[policy].notes.conditions["Overlapping"].message
    done = len(world.done)
    await reconciled(world)
    assert len(world.done) == done
