"""The live window against a plain model: every count, distinct user and top item, over time, lateness and repetition."""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.analytics.model import window as window_module
from groundswell.analytics.model.people import Count, Second
from groundswell.analytics.model.rows import Columns
from groundswell.analytics.model.window import KINDS_MAX, OTHER_KINDS, SETTLED_S, TOP_ITEMS, WINDOW_S, Window
from groundswell.analytics.service.live import LiveCounters
from groundswell.kernel import streams
from groundswell.kernel.bus import frames
from tests.clocks import HeldClock

NOW_MS = 1_800_000_000_500
Value = TypeVar("Value", bound=Hashable)
rows = st.builds(
    frames.Row,
    ts_ms=st.integers(NOW_MS - 70_000, NOW_MS),
    kind=st.sampled_from(["click", "view"]),
    tenant=st.sampled_from([7, 8]),
    item=st.integers(1, 5),
    user=st.integers(1, 6),
    country=st.sampled_from([0, 0x4445]),
    device=st.integers(0, 2),
    flags=st.sampled_from([0, frames.BOT]),
    network=st.just(0),
    value=st.just(0.0),
    props=st.just(""),
    name=st.just(""),
)
recent = st.builds(frames.Row._replace, rows, ts_ms=st.integers(NOW_MS - 3_000, NOW_MS))
"""Of seconds that are still told by their users."""


def columns_of(window: Window, batch: list[frames.Row]) -> Columns:
    arrays = [np.array(column) for column in zip(*batch, strict=True)]
    ts_ms, _, tenants, items, users, _, countries, devices, flags = arrays[:9]
    kinds = np.array([window.kind(row.kind) for row in batch])
    return Columns(ts_ms, tenants, kinds, items, users, countries, devices, flags & frames.BOT != 0)


def counted(*batches: list[frames.Row], now_ms: int = NOW_MS) -> Window:
    window = Window()
    for batch in batches:
        window.count(columns_of(window, batch), now_ms)
    return window


def record_of(batch: pa.RecordBatch, offset: int, header: frames.Header) -> streams.Record:
    return streams.Record(0, offset, frames.encode(batch), header.to_record())


@pytest.mark.promise("ANALYTICS-8")
@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(rows, min_size=1, max_size=40), min_size=1, max_size=4))
def test_the_window_equals_a_plain_model(batches: list[list[frames.Row]]) -> None:
    window, every = counted(*batches), [row for batch in batches for row in batch]
    now_s = NOW_MS // 1000
    for tenant, kind in ((7, ""), (7, "click"), (8, "view")):
        mine = [row for row in every if row.tenant == tenant and kind in ("", row.kind)]
        look = window.look(tenant, kind, NOW_MS)
        per_second = Counter(row.ts_ms // 1000 for row in mine)
        assert look.events_per_second == [per_second[second] for second in range(now_s - 60, now_s)]
        assert look.window_events == len(mine)
        assert look.window_bots == sum(row.flags & frames.BOT for row in mine)
        assert look.users == len({row.user for row in mine if row.ts_ms // 1000 == now_s - 1})
        minute = [row for row in mine if row.ts_ms // 1000 > now_s - 60]
        assert sum(count for _, _, count in look.top_items) == len(minute)
        top = Counter((row.kind, row.item) for row in minute)
        assert {(each_kind, item): count for each_kind, item, count in look.top_items} == dict(top)
        assert look.countries == dict(Counter(row.country for row in minute))
        assert look.devices == dict(Counter(row.device for row in minute))


def plainly(rows: list[frames.Row], second: int, *items: tuple[str, int]) -> Second:
    """What `rows` were in this second, told by a plain model."""
    held = [row for row in rows if row.ts_ms // 1000 == second]

    def by(value: Callable[[frames.Row], Value]) -> dict[Value, Count]:
        events = Counter(map(value, held))
        return {each: Count(events[each], len({row.user for row in held if value(row) == each})) for each in events}

    return Second(
        second,
        Count(len(held), len({row.user for row in held})),
        by(lambda row: row.kind),
        by(lambda row: row.country),
        by(lambda row: row.device),
        {item: count for item, count in by(lambda row: (row.kind, row.item)).items() if item in items},
    )


@pytest.mark.promise("ANALYTICS-8")
@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(recent, min_size=1, max_size=60), min_size=1, max_size=4))
def test_events_and_people_of_a_second_by_kind_country_device_and_item_equal_a_plain_model(
    batches: list[list[frames.Row]],
) -> None:
    window, every = counted(*batches), [row for batch in batches for row in batch]
    for tenant, kind in ((7, ""), (7, "click"), (8, "view"), (9, "")):
        mine = [row for row in every if row.tenant == tenant and kind in ("", row.kind)]
        top = [(each_kind, item) for each_kind, item, _ in window.look(tenant, kind, NOW_MS).top_items]
        assert len(top) < TOP_ITEMS, "all items are told"
        for later_s in (0, 1, 2):
            told = window.second(tenant, kind, NOW_MS + later_s * 1000)
            assert told == plainly(mine, NOW_MS // 1000 + later_s - SETTLED_S, *top)
            assert list(told.items) == [item for item in top if item in told.items], "in the order of the page"


def click(ts_ms: int, item: int = 1, user: int = 1) -> frames.Row:
    return frames.Row(ts_ms, "click", 7, item, user)


def test_what_is_older_than_the_window_is_not_counted_and_the_rest_ages_out() -> None:
    window = counted([click(NOW_MS - (WINDOW_S + 5) * 1000), click(NOW_MS - 10_000), click(NOW_MS)])
    assert window.look(7, "", NOW_MS).window_events == 2
    assert window.look(7, "", NOW_MS + 300_000).window_events == 2
    assert window.look(7, "", NOW_MS + (WINDOW_S + 20) * 1000).window_events == 0


def test_a_clock_that_runs_ahead_does_not_move_the_window() -> None:
    window = counted([click(NOW_MS - 5_000)], [click(NOW_MS + 3_600_000)])
    look = window.look(7, "", NOW_MS)
    assert look.window_events == 2
    assert look.events_per_second[-5] == 1


def test_a_frame_is_counted_once_however_often_it_comes() -> None:
    counters = LiveCounters(HeldClock(NOW_MS))
    batch = frames.record_batch([click(NOW_MS - 100), click(NOW_MS - 50)])
    header = frames.Header(99, 5, 2, NOW_MS - 100, NOW_MS - 50)
    counters.take([record_of(batch, 10, header), record_of(batch, 10, header)])
    counters.take([record_of(batch, 11, header)])
    assert counters.look(7, "").window_events == 2
    assert counters.freshness_ms == 100


def test_whatever_kinds_a_tenant_makes_up_it_keeps_its_share_of_them_and_its_totals_are_exact() -> None:
    many = [frames.Row(NOW_MS - 1_000, f"kind_{n}", 7, n, n, device=1) for n in range(KINDS_MAX + 50)]
    window = counted(many[: KINDS_MAX + 25], many[KINDS_MAX + 25 :], [frames.Row(NOW_MS - 1_000, "view", 8, 1, 1)])
    assert window.look(7, "", NOW_MS).window_events == len(many)
    assert window.look(7, OTHER_KINDS, NOW_MS).window_events == 50
    assert window.look(7, f"kind_{KINDS_MAX + 1}", NOW_MS).window_events == 0
    assert window.look(8, "view", NOW_MS).window_events == 1


@pytest.mark.promise("ANALYTICS-8")
def test_freshness_is_the_newest_frames_grows_while_the_counters_stand_still_and_is_none_when_nothing_comes() -> None:
    """Goal: an outage of the log shows. Method: frames and looks at the log's end come, then nothing for a minute, then both again."""
    clock = HeldClock(NOW_MS)
    counters = LiveCounters(clock)
    batch = frames.record_batch([click(NOW_MS - 100)])
    counters.take([record_of(batch, 1, frames.Header(99, 1, 1, NOW_MS - 100, NOW_MS - 100))])
    assert (counters.freshness_ms, counters.complete_ms) == (100, None)
    counters.complete(0.5)
    assert (counters.freshness_ms, counters.complete_ms) == (100, NOW_MS - 500)
    clock.at_ms += 60_000
    assert (counters.freshness_ms, counters.complete_ms) == (60_500, NOW_MS - 500)
    counters.complete(0.0)
    assert (counters.freshness_ms, counters.complete_ms) == (0, clock.at_ms), "no frame came for a minute"


@pytest.mark.promise("ANALYTICS-8")
def test_counters_that_never_were_complete_age_from_their_beginning() -> None:
    clock = HeldClock(NOW_MS)
    counters = LiveCounters(clock)
    clock.at_ms += 60_000
    assert (counters.freshness_ms, counters.complete_ms) == (60_000, None)


def test_a_client_batch_that_comes_in_two_frames_is_counted_once_and_parked_rows_never() -> None:
    counters = LiveCounters(HeldClock(NOW_MS))
    batch = frames.record_batch([click(NOW_MS), click(NOW_MS), click(NOW_MS)._replace(flags=frames.PARKED)])
    for sequence in (1, 2):
        group = (frames.Group(b"d" * 16, 0, 2),)
        counters.take([record_of(batch, sequence, frames.Header(99, sequence, 3, NOW_MS, NOW_MS, group))])
    assert counters.look(7, "").window_events == 2


def test_a_corrupt_frame_is_skipped_and_the_next_one_counted() -> None:
    counters = LiveCounters(HeldClock(NOW_MS))
    batch = frames.record_batch([click(NOW_MS)])
    header = frames.Header(99, 1, 1, NOW_MS, NOW_MS)
    counters.take([streams.Record(0, 1, b"nonsense", header.to_record()), record_of(batch, 2, header)])
    assert counters.look(7, "").window_events == 1


def test_items_that_are_no_ids_keep_their_names() -> None:
    counters = LiveCounters(HeldClock(NOW_MS))
    item, name = frames.item_id("pages/pricing")
    batch = frames.record_batch([click(NOW_MS), frames.Row(NOW_MS, "view", 7, item, 1, name=name)])
    counters.take([record_of(batch, 1, frames.Header(99, 1, 2, NOW_MS, NOW_MS))])
    names = {counters.name_of(7, item) for _, item, _ in counters.look(7, "").top_items}
    assert names == {"1", "pages/pricing"}


def test_two_tenants_may_call_items_of_one_number_differently() -> None:
    """Numbers of texts can be made to meet; no tenant may put its words on another's page."""
    counters = LiveCounters(HeldClock(NOW_MS))
    rows = [frames.Row(NOW_MS, "view", tenant, 5, 1, name=name) for tenant, name in ((7, "ours"), (8, "theirs"))]
    counters.take([record_of(frames.record_batch(rows), 1, frames.Header(99, 1, 2, NOW_MS, NOW_MS))])
    assert [counters.name_of(tenant, 5) for tenant in (7, 8, 9)] == ["ours", "theirs", "5"]


def test_a_client_batch_is_known_again_after_half_a_million_others() -> None:
    window = Window()
    names = [number.to_bytes(16, "little") for number in range(window_module.DIGESTS_MAX + 1)]
    assert all(window.is_new_batch(0, name) for name in names)
    assert not any(window.is_new_batch(0, name) for name in names)
    assert window.is_new_batch(1, names[0]), "partitions are apart"


def test_people_are_told_once_a_second_for_all_who_ask() -> None:
    clock = HeldClock(NOW_MS)
    counters = LiveCounters(clock)
    first = NOW_MS - SETTLED_S * 1000
    rows = [click(first, user=1), click(first, user=2), click(first + 1_000, user=2)]
    for number, row in enumerate(rows, 1):
        counters.take([record_of(frames.record_batch([row]), number, frames.Header(99, number, 1, NOW_MS, NOW_MS))])
    told = counters.second(7, "")
    assert told.total == Count(2, 2)
    clock.at_ms += 499
    assert counters.second(7, "") is told
    assert counters.second(7, "click") is not told
    clock.at_ms += 1
    assert counters.second(7, "").total == Count(1, 1)
