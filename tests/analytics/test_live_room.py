"""What the live window keeps of many tenants over a long time.

Goal: its memory is bounded whatever comes, and no number is wrong without saying so. Method: the plain model of `Traffic`, which forgets
nothing, beside windows that have to.
"""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.analytics.model.window import KINDS_MAX, OTHER_KINDS, SWEEP_S, WINDOW_S, Look, Window
from groundswell.kernel.bus import frames
from tests.analytics.test_live_window import columns_of

BEGAN_S = 1_800_000_000
BUCKET_S = 10


@dataclass
class Traffic:
    """A window, and all that it was given."""

    window: Window
    now_s: int = BEGAN_S
    rows: list[frames.Row] = field(default_factory=list)

    def count(self, rows: list[frames.Row]) -> None:
        self.window.count(columns_of(self.window, rows), self.now_s * 1000)
        self.rows += rows

    def row(self, tenant: int, kind: str = "view", age_s: int = 0, country: int = 0, flags: int = 0) -> frames.Row:
        return frames.Row((self.now_s - age_s) * 1000, kind, tenant, 1, 1, country=country, flags=flags)

    def look(self, tenant: int, kind: str = "") -> Look:
        return self.window.look(tenant, kind, self.now_s * 1000)

    def is_exact(self, tenant: int, kind: str = "") -> bool:
        """Whether the tenant's look is what the plain model says."""
        mine = [row for row in self.rows if row.tenant == tenant and kind in ("", row.kind)]
        oldest_s = (self.now_s // BUCKET_S - WINDOW_S // BUCKET_S + 1) * BUCKET_S
        held = [row for row in mine if row.ts_ms // 1000 >= oldest_s]
        minute = [row for row in mine if row.ts_ms // 1000 > self.now_s - 60]
        look, seconds = self.look(tenant, kind), Counter(row.ts_ms // 1000 for row in mine)
        return (
            look.window_events == len(held)
            and look.window_bots == sum(row.flags & frames.BOT for row in held)
            and look.events_per_second == [seconds[second] for second in range(self.now_s - 60, self.now_s)]
            and look.countries == dict(Counter(row.country for row in minute))
            and look.devices == dict(Counter(row.device for row in minute))
        )


@st.composite
def steps(draw: st.DrawFn, tenants: int) -> list[tuple[int, list[tuple[int, str, int, int, int]]]]:
    """(seconds that pass, then rows as tenant, kind, age in seconds, country, flags), many times."""
    row = st.tuples(
        st.integers(1, tenants),
        st.sampled_from(["view", "like", "share"]),
        st.integers(0, 100),
        st.sampled_from([0, 0x4445, 0x4652]),
        st.sampled_from([0, frames.BOT]),
    )
    return draw(st.lists(st.tuples(st.integers(0, 500), st.lists(row, min_size=1, max_size=30)), max_size=12))


@pytest.mark.promise("ANALYTICS-8")
@settings(max_examples=100, deadline=None)
@given(steps(tenants=6))
def test_what_was_silent_for_a_window_is_freed_and_no_number_changes(
    drawn: list[tuple[int, list[tuple[int, str, int, int, int]]]],
) -> None:
    traffic = Traffic(Window())
    for passed_s, rows in drawn:
        traffic.now_s += passed_s
        traffic.count([traffic.row(*each) for each in rows])
        for tenant in range(1, 7):
            assert traffic.is_exact(tenant)
            assert traffic.is_exact(tenant, "like")
            assert traffic.look(tenant).complete
    traffic.now_s += WINDOW_S + SWEEP_S
    traffic.count([traffic.row(9)])
    assert len(traffic.window._totals) == len(["all", "country", "device"]), "only what came now"
    assert traffic.window._kinds == {9: {"view"}}
    assert traffic.is_exact(9)


def test_kinds_that_were_silent_for_a_window_make_room_for_others() -> None:
    traffic = Traffic(Window())
    traffic.count([traffic.row(7, f"kind_{n}") for n in range(KINDS_MAX)])
    traffic.count([traffic.row(7, "late")])
    assert traffic.look(7, OTHER_KINDS).window_events == 1
    traffic.now_s += WINDOW_S + SWEEP_S
    traffic.count([traffic.row(7, "late")])
    assert traffic.look(7, "late").window_events == 1
    assert traffic.look(7).window_events == 1


@pytest.mark.promise("ANALYTICS-8")
@settings(max_examples=40, deadline=None)
@given(steps(tenants=60))
def test_whatever_comes_there_are_no_more_counters_than_may_be_and_no_number_is_wrong_unsaid(
    drawn: list[tuple[int, list[tuple[int, str, int, int, int]]]],
) -> None:
    """Tenants come and go; those that had to be forgotten are not complete, all others are exact."""
    totals_max = 60
    traffic = Traffic(Window(totals_max))
    for passed_s, rows in drawn:
        traffic.now_s += passed_s
        traffic.count([traffic.row(*each) for each in rows])
        assert len(traffic.window._totals) <= totals_max
        for tenant in range(1, 61):
            assert traffic.is_exact(tenant) or not traffic.look(tenant).complete
    traffic.now_s += WINDOW_S + SWEEP_S
    traffic.count([traffic.row(7), traffic.row(8)])
    for tenant in range(1, 61):
        assert traffic.is_exact(tenant)
        assert traffic.look(tenant).complete, "a window later all numbers are whole again"


def test_who_counts_least_with_each_counter_is_forgotten_first() -> None:
    """A tenant that makes many kinds up pushes itself out, and no busy or modest one."""
    traffic = Traffic(Window(totals_max=400))
    busy = [traffic.row(1) for _ in range(500)]
    modest = [traffic.row(2 + n) for n in range(20) for _ in range(5)]
    greedy = [traffic.row(99, f"kind_{n}") for n in range(150)]
    traffic.count([*busy, *modest, *greedy])
    assert [traffic.look(tenant).complete for tenant in (1, *range(2, 22), 99)] == [True] * 21 + [False]
    assert all(traffic.is_exact(tenant) for tenant in range(1, 22))
    assert traffic.window.forgotten == 1


def test_when_too_many_are_forgotten_to_be_told_apart_nobody_is_complete() -> None:
    traffic = Traffic(Window(totals_max=10, doubted_max=20))
    for tenant in range(40):
        traffic.count([traffic.row(tenant)])
        assert len(traffic.window._doubted_s) <= 20
    assert not any(traffic.look(tenant).complete for tenant in (0, 39, 10**9))
    traffic.now_s += WINDOW_S + SWEEP_S
    traffic.count([traffic.row(7)])
    assert traffic.look(10**9).complete
