"""The rules of planning, over figures of every size; hypothesis prints what it takes to repeat a failure."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from groundswell_operator.planning.admission import Spike, admitted, matches
from groundswell_operator.planning.lowering import Times, due, lowered
from groundswell_operator.planning.raising import (
    Allowance,
    Baseline,
    Demand,
    Raise,
    SetFloor,
    SetScale,
    affordable,
    times,
    wanted,
    wave,
    writes,
)
from groundswell_operator.policies import Budget, Cooldown, Level, Match, OnExhausted

COOLDOWN = Cooldown(quiet_period_s=900, step_factor=0.5, step_interval_s=60, min_hold_s=600)
BUDGET = Budget(
    concurrent_spikes_max=3,
    extra_replicas_max=500,
    replica_minutes_day_max=60_000,
    spike_duration_s_max=21_600,
    on_exhausted=OnExhausted.CLAMP,
)
EVERYTHING = Match(frozenset(), frozenset(), Level.RISING, 0, 0, 0)
SPIKE = Spike("a", "acme", "link", Level.VIRAL, 10_000_000, 0.9, 5_000, 0.0)

replicas = st.integers(0, 2_000)
baselines = st.builds(
    lambda floor, more, room: Baseline(floor + more, floor, floor + more + room),
    st.integers(1, 300),
    st.integers(0, 300),
    st.integers(0, 300),
)
demands = st.lists(
    st.builds(Demand, st.sampled_from("abc"), st.floats(1, 20), st.integers(1, 3_000)), min_size=1, max_size=4
)
spikes = st.lists(
    st.builds(
        dataclasses.replace,
        st.just(SPIKE),
        id=st.text("0123456789abcdef", min_size=4, max_size=4),
        projected_views_hour=st.integers(0, 5),
        detected_s=st.integers(0, 3),
        has_place=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)


def test_ten_times_three_is_thirty_at_once_and_readers_get_their_own_factor() -> None:
    assert wanted(Baseline(3, 3, 60), [Demand("viral", 10, 300)]).replicas == 30
    assert wanted(Baseline(4), [Demand("viral", 5, 300)]).replicas == 20
    assert writes(Baseline(3, 3, 20), 30) == [SetFloor(30, 30), SetScale(30)]


@given(baselines, demands, st.none() | st.integers(1, 500))
def test_a_raise_is_within_every_bound_and_never_below_what_was_there(
    baseline: Baseline, asked: list[Demand], partitions: int | None
) -> None:
    found = wanted(baseline, asked, partitions).replicas
    assert found >= baseline.replicas
    bounds = [*(each.max for each in asked), *([] if partitions is None else [partitions])]
    assert found <= max(baseline.replicas, *(min(bounds),))
    assert found <= max(baseline.replicas * each.multiplier for each in asked) + 1


@given(baselines, demands, st.none() | st.integers(1, 500))
def test_what_kept_a_raise_small_is_named(baseline: Baseline, asked: list[Demand], partitions: int | None) -> None:
    found = wanted(baseline, asked, partitions)
    unbounded = wanted(baseline, [dataclasses.replace(each, max=10**6) for each in asked]).replicas
    strictest = min(each.max for each in asked)
    if found.replicas < unbounded:
        assert found.limited_by or found.limited_by_partitions
    assert set(found.limited_by) <= {each.policy for each in asked if each.max == strictest < unbounded}
    if found.limited_by_partitions:
        assert partitions is not None
        assert partitions < min(strictest, unbounded)


def test_a_factor_is_as_exact_as_it_is_written() -> None:
    assert [times(100, each) for each in (1, 1.1, 1.155, 2.5, 20)] == [100, 110, 116, 250, 2_000]


@given(baselines, demands, st.randoms(use_true_random=False))
def test_two_spikes_want_the_larger_figure_in_whatever_order_and_however_often(
    baseline: Baseline, asked: list[Demand], shuffling: random.Random
) -> None:
    again = asked * 2
    shuffling.shuffle(again)
    assert wanted(baseline, again).replicas == wanted(baseline, asked).replicas


@given(baselines, replicas)
def test_writes_bring_a_target_there_in_two_floor_first_and_then_there_is_nothing_to_write(
    actual: Baseline, figure: int
) -> None:
    found = writes(actual, figure)
    assert [type(each) for each in found] in ([], [SetFloor], [SetScale], [SetFloor, SetScale])
    after = actual
    for each in found:
        if isinstance(each, SetFloor):
            assert actual.floor is not None
            assert actual.floor < each.floor <= each.ceiling
            after = dataclasses.replace(after, floor=each.floor, ceiling=each.ceiling)
        else:
            after = dataclasses.replace(after, replicas=each.replicas)
    assert after.replicas == max(actual.replicas, figure)
    assert after.ceiling is not None
    assert actual.ceiling is not None
    assert after.ceiling >= actual.ceiling
    assert writes(after, figure) == []


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(baselines, replicas), min_size=1), st.integers(0, 3_000))
def test_a_clamped_raise_is_paid_for_and_takes_the_same_part_from_every_target(
    targets: dict[str, tuple[Baseline, int]], extra: int
) -> None:
    before = {name: baseline for name, (baseline, _) in targets.items()}
    figures = {name: baseline.replicas + more for name, (baseline, more) in targets.items()}
    found = affordable(before, figures, Allowance(extra), OnExhausted.CLAMP)
    given_extra = {name: found[name] - before[name].replicas for name in targets}
    total = sum(more for _, more in targets.values())
    assert sum(given_extra.values()) <= extra
    for name, (_, more) in targets.items():
        part = min(1.0, extra / total) if total else 1.0
        assert more * part - 1 < given_extra[name] <= more


@given(st.integers(1, 100), st.sampled_from([OnExhausted.REJECT, OnExhausted.NOTIFY_ONLY]))
def test_a_raise_beyond_a_strict_budget_is_none_at_all(extra: int, on_exhausted: OnExhausted) -> None:
    before = {"web": Baseline(3), "readers": Baseline(2)}
    figures = {"web": 3 + extra, "readers": 2}
    assert affordable(before, figures, Allowance(extra), on_exhausted) == figures
    assert affordable(before, figures, Allowance(extra - 1), on_exhausted) == {"web": 3, "readers": 2}


def test_the_days_minutes_bound_what_can_be_raised_for_as_long_as_it_is_held() -> None:
    assert Allowance.of(BUDGET, COOLDOWN, 0).extra_replicas == 500
    assert Allowance.of(BUDGET, COOLDOWN, 59_000).extra_replicas == 100
    assert Allowance.of(BUDGET, COOLDOWN, 61_000).extra_replicas == 0


def test_the_second_half_of_web_waits_for_the_readers_or_ten_seconds() -> None:
    def after(waited_s: float, ready: int = 2) -> dict[str, int]:
        return wave({"readers": Raise(0, 2, 10, ready, waited_s), "web": Raise(1, 3, 30, 3, waited_s)})

    assert after(9.9) == {"readers": 10, "web": 17}
    assert after(10.0) == {"readers": 10, "web": 30}
    assert after(0.0, ready=10) == {"readers": 10, "web": 30}
    assert wave({"web": Raise(1, 3, 30, 30, 0.0)}) == {"web": 30}


def test_each_raise_waits_for_itself() -> None:
    readers, web = Raise(0, 2, 10, 2, 0.0), Raise(1, 3, 30, 3, 0.0)
    old = Raise(0, 2, 10, ready=2, waited_s=60.0)
    assert wave({"readers": readers, "web": web, "old": old})["web"] == 17
    assert wave({"web": web, "old": old})["web"] == 30


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.builds(
            lambda order, baseline, more, ready, waited_s: Raise(order, baseline, baseline + more, ready, waited_s),
            st.integers(0, 3),
            st.integers(0, 50),
            st.integers(0, 500),
            st.integers(0, 600),
            st.floats(0, 20),
        ),
        min_size=1,
    ),
)
def test_a_wave_is_at_least_half_and_what_comes_first_gets_all(raises: dict[str, Raise]) -> None:
    found = wave(raises)
    first = min(each.order for each in raises.values())
    for name, each in raises.items():
        assert each.baseline + (each.figure - each.baseline) / 2 <= found[name] <= each.figure
        if each.order == first:
            assert found[name] == each.figure


@given(spikes, st.integers(1, 5), st.randoms(use_true_random=False))
def test_places_go_to_the_biggest_and_stay_with_who_has_one(
    found: list[Spike], places: int, shuffling: random.Random
) -> None:
    chosen = admitted(found, places)
    shuffled = list(found)
    shuffling.shuffle(shuffled)
    assert admitted(shuffled, places) == chosen
    holding = {each.id for each in found if each.has_place}
    assert holding <= set(chosen)
    assert len(chosen) == max(min(places, len(found)), len(holding))
    new = [each for each in found if not each.has_place]
    least = min((each.projected_views_hour for each in new if each.id in chosen), default=math.inf)
    assert all(each.projected_views_hour <= least for each in new if each.id not in chosen)


def test_a_policy_is_for_a_spike_that_reaches_every_bar() -> None:
    assert matches(EVERYTHING, SPIKE)
    bars: dict[str, Any] = {
        "tenants": frozenset({"other"}),
        "kinds": frozenset({"post"}),
        "min_level": Level.HOT,
        "min_projected_views_hour": 10_000_001,
        "min_confidence": 0.91,
        "min_distinct_users": 5_001,
    }
    for name, bar in bars.items():
        assert not matches(dataclasses.replace(EVERYTHING, **{name: bar}), SPIKE), name


@given(st.integers(0, 5_000), st.integers(0, 500), st.none() | replicas, replicas, st.floats(0.01, 0.5))
def test_a_step_down_takes_at_most_its_part_and_never_what_is_needed(
    extra: int, baseline: int, needed: int | None, ceiling: int, factor: float
) -> None:
    held = baseline + extra
    found = lowered(held, baseline, needed, ceiling, factor)
    assert baseline <= found <= held
    if needed is None:
        assert found == held
    elif held <= needed:  # the floor holds nothing up, but the ceiling may
        assert found == (baseline if needed <= ceiling else held)
    elif held > baseline:
        assert needed <= found < held
        assert held - found <= max(1, extra * factor)


@given(st.integers(1, 5_000), st.integers(0, 500), st.floats(0.05, 0.5))
def test_steps_come_to_the_baseline_when_nothing_is_needed(extra: int, baseline: int, factor: float) -> None:
    held, steps = baseline + extra, 0
    while held > baseline:
        held, steps = lowered(held, baseline, 0, 0, factor), steps + 1
    assert held == baseline
    assert steps <= 1 / factor + math.log(extra, 1 / (1 - factor / 2)) + 1


def test_no_step_is_due_before_hold_quiet_and_rest_are_over() -> None:
    def is_due(now_s: float, over_s: float | None = 0.0, stepped_s: float | None = None, raised_s: float = 0.0) -> bool:
        return due(COOLDOWN, BUDGET.spike_duration_s_max, Times(raised_s, over_s, stepped_s), now_s)

    assert not is_due(899)
    assert is_due(900)
    assert not is_due(900, raised_s=301)
    assert not is_due(1_000, stepped_s=941)
    assert is_due(1_000, stepped_s=940)


def test_a_spike_that_nobody_ends_is_held_until_the_longest_it_may_last() -> None:
    def is_due(now_s: float) -> bool:
        return due(COOLDOWN, BUDGET.spike_duration_s_max, Times(0, None, None), now_s)

    assert not is_due(21_599)
    assert is_due(21_600)
