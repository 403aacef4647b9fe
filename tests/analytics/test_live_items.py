"""Items of many tenants in the room of one process.

Goal: nobody's flood costs another tenant its busiest items, and memory is bounded. Method: a plain model of every count, beside a window
that has little room.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.analytics.model.items import FORGOTTEN_SHARE, ITEMS_MAX, PROCESS_ITEMS_MAX, Items
from groundswell.analytics.model.rows import Columns
from groundswell.analytics.model.window import CHART_S, WINDOW_S, Window
from tests.analytics.test_live_window import NOW_MS

TENANT_MAX, PROCESS_MAX = 20, 60
TENANTS = 5
SHARE = int(PROCESS_MAX * (1 - FORGOTTEN_SHARE)) // TENANTS
"""Items of each tenant for which there is room whatever the others do."""
FLOOD = st.tuples(st.integers(2, TENANTS), st.integers(1, 100), st.integers(1, 60), st.integers(1, 3))
"""A tenant, its first item, how many items come, and how often each."""
BUSY = st.lists(st.tuples(st.sampled_from(["click", "view"]), st.integers(1, SHARE // 2)), max_size=40)


def visits(window: Window, tenants: list[int], kinds: list[str], items: list[int], now_ms: int = NOW_MS) -> None:
    """Counts a visit for each tenant, kind and item."""
    ones = np.ones(len(items), np.int64)
    window.count(
        Columns(
            ts_ms=ones * now_ms,
            tenants=np.array(tenants, np.uint64),
            kinds=np.array([window.kind(kind) for kind in kinds]),
            items=np.array(items, np.uint64),
            users=ones.astype(np.uint64),
            countries=ones.astype(np.uint16),
            devices=ones.astype(np.uint8),
            bots=ones == 0,
        ),
        now_ms,
    )


def bursts(tenant: int, first: int, count: int, times: int = 1) -> tuple[list[int], list[str], list[int]]:
    """`count` items of the tenant, each so many times."""
    return [tenant] * count * times, ["view"] * count * times, list(range(first, first + count)) * times


@pytest.mark.promise("ANALYTICS-8")
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BUSY, st.lists(FLOOD, min_size=4, max_size=8)), min_size=1, max_size=4))
def test_a_tenants_busiest_items_survive_the_floods_of_others(
    drawn: list[tuple[list[tuple[str, int]], list[tuple[int, int, int, int]]]],
) -> None:
    items = Items(CHART_S, WINDOW_S, TENANT_MAX, PROCESS_MAX)
    window, mine = Window(items=items), Counter[tuple[str, int]]()
    for busy, floods in drawn:
        if busy:
            visits(window, [1] * len(busy), [kind for kind, _ in busy], [item for _, item in busy])
            mine.update(busy)
        for tenant, first, count, times in floods:
            visits(window, *bursts(tenant, first, count, times))
            assert items.held(tenant) <= TENANT_MAX * (1 + FORGOTTEN_SHARE)
            assert len(items) <= PROCESS_MAX
        told = window.look(1, "", NOW_MS).top_items
        assert {(kind, item): count for kind, item, count in told} == mine


def test_a_tenants_busiest_items_survive_its_own_flood_and_those_of_others() -> None:
    items = Items(CHART_S, WINDOW_S, TENANT_MAX, PROCESS_MAX)
    window, busiest = Window(items=items), {("view", item): 5 for item in range(SHARE)}
    visits(window, *bursts(1, 0, SHARE, times=5))
    for tenant in (1, 2, 3, 4, 5, 1):
        for first in range(1_000, 2_000, 50):
            visits(window, *bursts(tenant, first, 50))
    told = {(kind, item): count for kind, item, count in window.look(1, "", NOW_MS).top_items}
    assert {name: told.get(name) for name in busiest} == busiest


def test_when_the_process_is_full_items_are_taken_from_who_has_most() -> None:
    items = Items(CHART_S, WINDOW_S, TENANT_MAX, PROCESS_MAX)
    window = Window(items=items)
    for tenant, count in ((1, 3), (2, 9), (3, 20), (4, 20), (5, 9)):
        visits(window, *bursts(tenant, 1, count))
    assert [items.held(tenant) for tenant in range(1, 6)] == [3, 9, 12, 12, 9]


def test_what_was_silent_for_a_window_makes_room_first() -> None:
    items = Items(CHART_S, WINDOW_S, TENANT_MAX, PROCESS_MAX)
    window, later_ms = Window(items=items), NOW_MS + (WINDOW_S + 20) * 1000
    for tenant in (1, 2, 3):
        visits(window, *bursts(tenant, 1, 15))
    visits(window, *bursts(4, 1, 20), now_ms=later_ms)
    assert items.held(4) == 20
    assert sum(items.held(tenant) for tenant in (1, 2, 3)) == int(PROCESS_MAX * (1 - FORGOTTEN_SHARE)) - 20


def test_a_column_that_another_item_had_begins_at_zero() -> None:
    items = Items(CHART_S, WINDOW_S, tenant_max=4)
    window = Window(items=items)
    for item in range(40):
        visits(window, *bursts(7, item, 1))
        told = {each: count for _, each, count in window.look(7, "", NOW_MS).top_items}
        assert told == dict.fromkeys(told, 1)
        assert min(item + 1, 4) <= len(told) <= 5


def test_a_tenant_keeps_its_50_000_busiest_items_beside_a_flood_of_another() -> None:
    items = Items(CHART_S, WINDOW_S)
    window = Window(items=items)
    visits(window, *bursts(7, 1, ITEMS_MAX, times=2))
    visits(window, [7] * 50, ["view"] * 50, [3] * 50)
    for first in range(0, PROCESS_ITEMS_MAX + 8_000, 8_000):
        visits(window, *bursts(8, first, 8_000))
        visits(window, *bursts(7, 10**6 + first, 500))
    told = {item: count for _, item, count in items.top([(7, "view")], 2 * ITEMS_MAX) if count > 1}
    assert told == {item: 52 if item == 3 else 2 for item in range(1, ITEMS_MAX + 1)}
    assert len(items) <= PROCESS_ITEMS_MAX
    assert window.look(7, "", NOW_MS).window_events == 2 * ITEMS_MAX + 50 + 500 * (PROCESS_ITEMS_MAX // 8_000 + 1)
