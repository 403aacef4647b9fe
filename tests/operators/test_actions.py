"""What a spike does besides scaling, over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.policies import Mode, OnExhausted
from groundswell_operator.saga.notifying import ATTEMPTS_MAX
from groundswell_operator.saga.state import Phase
from groundswell_operator.saga.steps import Hold, Record, Write
from tests.operators.passing import BEFORE, answer_lost, bounds, flags, phase, raised, reconciled, run_for
from tests.operators.world import BUDGET, FLAGS, VALUES, WEB, World, telling


async def test_keys_of_a_config_map_are_set_while_a_spike_lives_and_given_back_by_value() -> None:
    world = raised(World(telling()))
    await run_for(world, 5)
    assert flags(world) == {"ttl": "60", "title": "ours", "stale": "yes"}
    configured = world.state.spikes["a"].progress.conditions["Configured"]
    assert (configured.status, configured.message) == (True, "stale, ttl in flags")
    raised(world, "b")
    await run_for(world, 40)
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert flags(world)["ttl"] == "60"  # the other spike lives
    world.over("b")
    await run_for(world, 200)
    assert phase(world, "b") is Phase.RESTORED
    assert flags(world) == VALUES


async def test_who_sets_a_key_meanwhile_finds_it_set_again_and_gets_that_value_in_the_end() -> None:
    world = raised(World(telling()))
    await run_for(world, 5)
    world.sets(ttl="7", stale="no", title="theirs")
    await run_for(world, 2)
    assert flags(world) == {"ttl": "60", "title": "theirs", "stale": "yes"}
    world.delete("a")
    await run_for(world, 5)
    assert flags(world) == {"ttl": "7", "title": "theirs", "stale": "no"}


async def test_a_spike_that_comes_as_a_key_is_set_by_somebody_else_knows_that_value_as_what_was_before() -> None:
    """Both in one look, before the earlier spike has recorded it: who is given back last must not bring back what was there long ago. The
    finalizer is there already, from an operator that was killed; and the answer to its record is lost, so this one cannot mend it."""
    world = raised(World(telling()))
    await run_for(world, 5)
    world.sets(ttl="7")
    world.put(dataclasses.replace(raised(world, "b").state.spikes["b"], held=True))
    world.fault = answer_lost(world, "b")
    await reconciled(world)
    for name in ("a", "b"):
        world.delete(name)
        await run_for(world, 5)
    assert flags(world) == {**VALUES, "ttl": "7"}


async def test_a_key_that_somebody_else_has_set_to_the_same_value_is_left_to_them() -> None:
    world = raised(World(telling()))
    await run_for(world, 5)
    world.sets(ttl="60")
    world.delete("a")
    await run_for(world, 5)
    assert flags(world) == {"ttl": "60", "title": "ours"}
    assert not world.state.config_maps[FLAGS].ours


async def test_a_config_map_that_is_missing_is_named_and_the_others_go_on() -> None:
    world = raised(World(telling()))
    world.state = dataclasses.replace(world.state, config_maps={})
    await run_for(world, 5)
    assert world.state.policies["default"].notes.conditions["Ready"].message == (
        "ConfigMap flags is not there, or not among those that the operator may change"
    )
    assert phase(world) is Phase.HOLDING


@pytest.mark.promise("OPERATOR-6")
async def test_observing_sets_no_key_and_tells_nobody() -> None:
    world = raised(World(telling(mode=Mode.OBSERVE)))
    await run_for(world, 5)
    assert "sets stale, ttl in flags; tells chat" in world.state.spikes["a"].progress.conditions["Admitted"].message
    assert flags(world) == VALUES
    assert not world.notices


async def test_a_spike_is_told_of_once_and_one_of_the_same_item_within_the_window_is_not() -> None:
    world = raised(World(telling()), item="links/7")
    raised(world, "b", item="links/7")
    raised(world, "c", item="links/8")
    await run_for(world, 10)
    assert sorted(world.notices) == [("a", "chat"), ("c", "chat")]
    said = {name: each.progress.conditions["Notified"] for name, each in world.state.spikes.items()}
    assert {name: (each.status, each.reason) for name, each in said.items()} == {
        "a": (True, "Sent"),
        "b": (True, "Repeats"),
        "c": (True, "Sent"),
    }
    for name in ("a", "b", "c"):
        world.delete(name)
    await run_for(world, 900)
    await run_for(raised(world, "d", item="links/7"), 5)
    assert ("d", "chat") in world.notices


async def test_a_notice_that_does_not_arrive_is_sent_again_after_ever_longer_pauses_and_is_given_up_in_the_end() -> (
    None
):
    world = raised(World(telling()))
    world.receiver = "answered 500"
    tried = []
    for _ in range(200):
        await run_for(world, 1)
        attempts = world.state.spikes["a"].notices["chat"].attempts
        tried.append(attempts)
    assert [tried.index(number) for number in range(1, 8)] == [0, 1, 3, 7, 15, 31, 63]
    notified = world.state.spikes["a"].progress.conditions["Notified"]
    assert (notified.status, notified.reason) == (False, "Retrying")
    assert notified.message == "chat: answered 500, attempt 8"
    assert phase(world) is Phase.HOLDING
    world.now_s += 300
    world.receiver = ""
    await run_for(world, 2)
    assert world.notices == [("a", "chat")]
    assert world.state.spikes["a"].progress.conditions["Notified"].reason == "Sent"


async def test_a_notice_is_given_up_after_a_bounded_number_of_attempts() -> None:
    world = raised(World(telling()))
    world.receiver = "no answer"
    for _ in range(ATTEMPTS_MAX + 5):
        world.now_s += 300
        await reconciled(world)
    assert world.state.spikes["a"].notices["chat"].attempts == ATTEMPTS_MAX
    assert world.state.spikes["a"].progress.conditions["Notified"].reason == "GivenUp"


def only_telling(places: int) -> World:
    """A namespace whose policy tells of the spikes that it has no place for."""
    found = telling()
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=places, on_exhausted=OnExhausted.NOTIFY_ONLY)
    return World(dataclasses.replace(found, policy=dataclasses.replace(found.policy, budget=budget)))


@pytest.mark.promise("OPERATOR-7")
async def test_a_spike_that_no_place_is_left_for_is_told_of_and_scales_nothing_where_the_budget_says_so() -> None:
    world = raised(only_telling(1))
    await run_for(world, 10)
    held = bounds(world)
    await run_for(raised(world, "b", views=9_000_000), 10)
    progress = world.state.spikes["b"].progress
    assert (progress.phase, progress.conditions["Admitted"].reason) == (Phase.HOLDING, "NotifyOnly")
    assert not progress.claims
    assert world.notices == [("a", "chat"), ("b", "chat")]
    assert bounds(world) == held
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == BEFORE
    assert flags(world)["ttl"] == "60"  # all but scaling is done for the other, which lives
    await run_for(raised(world, "c"), 10)
    assert world.state.spikes["c"].progress.conditions["Admitted"].reason == "Admitted"  # it had the place of nobody
    assert bounds(world) == held
    for name in ("b", "c"):
        world.over(name)
    await run_for(world, 200)
    assert (phase(world, "b"), phase(world, "c")) == (Phase.RESTORED, Phase.RESTORED)
    assert (bounds(world), flags(world)) == (BEFORE, VALUES)


async def test_a_spike_that_is_only_told_of_says_nothing_of_what_a_later_one_begins_with() -> None:
    """The load doubles while it lives, and somebody changes the floor: the next raise goes by that, and its return by nothing else."""
    world = raised(only_telling(1))
    await run_for(raised(world, "b"), 10)
    world.over("a")
    await run_for(world, 200)
    scaled = world.state.targets[WEB]
    assert scaled.autoscaler is not None
    floor = 2 * (scaled.autoscaler.floor or 1)
    world.show(dataclasses.replace(scaled, replicas=2 * scaled.replicas))
    world.scale(world.state.targets[WEB], floor=floor, floor_ours=False, wants=2 * scaled.replicas)
    await run_for(raised(world, "c"), 10)
    (claim,) = [each for each in world.state.spikes["c"].progress.claims if each.target == WEB]
    assert (claim.baseline.replicas, claim.baseline.floor) == (2 * scaled.replicas, floor)
    world.over("b")
    await run_for(world, 200)
    assert world.state.spikes["b"].progress.conditions["Restored"].status


async def test_spikes_that_are_only_told_of_keep_no_raise_waiting() -> None:
    world = only_telling(1)
    for number in range(100):
        raised(world, f"s{number:02}", views=number)
    await reconciled(world)
    raises = [number for number, step in enumerate(world.done) if isinstance(step, Write)]
    others = [
        number for number, step in enumerate(world.done) if isinstance(step, Hold | Record) and step.spike.name != "s99"
    ]
    assert max(raises) < min(others)
    while len({spike for spike, _ in world.notices}) < 100:
        done = len(world.done)
        await run_for(world, 1)  # as much as a pass comes to on this machine
        assert len(world.done) > done
