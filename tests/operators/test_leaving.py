"""Which objects are left out of a look that cannot take them."""

from __future__ import annotations

import pytest

from groundswell_operator.applying.leaving import readable
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Unread
from tests.operators.passing import raised
from tests.operators.world import World, governing


async def test_of_two_objects_that_only_together_cannot_be_decided_of_the_later_is_left_out() -> None:
    spikes = {name: raised(World(), name).state.spikes[name] for name in "abcde"}

    def look(state: Namespace) -> frozenset[str]:
        read = frozenset(name for name, each in state.spikes.items() if each.unread is None)
        if {"b", "d"} <= read:
            raise KeyError("together")
        return read

    left, found = readable(Namespace({}, spikes, {}), look)
    assert found == {"a", "b", "c", "e"}
    assert left.spikes["d"].unread == Unread("KeyError('together')")


def test_one_odd_spike_or_policy_of_many_is_found_in_a_few_looks() -> None:
    """There is a look at every pass for as long as it is there, and a raise waits for that."""
    world = World(*(governing(f"p{number}") for number in range(100)))
    for number in range(1_000):
        raised(world, f"s{number}", policy=f"p{number % 100}")
    looked_at: list[int] = []

    def look(state: Namespace) -> None:
        looked_at.append(len(state.spikes) + len(state.policies))
        read = {name for name, each in state.spikes.items() if each.unread is None}
        if "p63" in state.policies or "s637" in read:
            raise KeyError("odd")

    left, _ = readable(world.state, look)
    assert left.unread_policies == {"p63"}
    assert [name for name, each in left.spikes.items() if each.unread is not None] == ["s637"]
    assert len(looked_at) < 100
    assert sum(looked_at) < 10 * (1_000 + 100)


def test_an_odd_spike_that_what_is_to_be_done_for_others_hides_is_the_one_that_is_left_out() -> None:
    """One that waits for a place has it, where who has it is not looked at: what is to be done for it comes first then."""
    names = ["holds", "a", "odd", "waits"]
    spikes = {name: raised(World(), name).state.spikes[name] for name in names}

    def look(state: Namespace) -> str:
        read = {name for name, each in state.spikes.items() if each.unread is None}
        if "waits" in read and "holds" not in read:
            return "a raise"
        if "odd" in read:
            raise KeyError("odd")
        return "nothing"

    left, found = readable(Namespace({}, spikes, {}), look)
    assert found == "nothing"
    assert [name for name, each in left.spikes.items() if each.unread is not None] == ["odd"]


def test_what_is_wrong_with_no_object_ends_the_look() -> None:
    def look(state: Namespace) -> None:
        raise ValueError("whatever there is")

    with pytest.raises(ValueError, match="whatever there is"):
        readable(raised(World(governing())).state, look)
