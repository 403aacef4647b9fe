"""The live counters beside a clock that is set: back or on, by little or by much.

Goal: the page goes on at once, and says for a window that its numbers are not whole. Method: counters whose wall clock is set while time
goes on, beside others that began when it was; a clock of which both go on together is the control.
"""

from dataclasses import replace

import pytest

from groundswell.analytics.model.window import AHEAD_S_MAX, BACK_S_MAX, SETTLED_S, WINDOW_S
from groundswell.analytics.service.live import LiveCounters
from groundswell.kernel.bus import frames
from tests.analytics.test_live_window import NOW_MS, click, record_of
from tests.clocks import HeldClock

HOUR_S = 3_600


class SetClock(HeldClock):
    """A clock that stands where it is put, while time goes on."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.passed_s = 0.0

    def monotonic_s(self) -> float:
        return self.passed_s

    def go_on(self, seconds: float) -> None:
        """So much passes."""
        self.at_ms += int(seconds * 1_000)
        self.passed_s += seconds

    def set(self, seconds: float) -> None:
        """The clock is set on by so much, or back, a moment later."""
        self.at_ms += int(seconds * 1_000)
        self.passed_s += 0.1


def frame(counters: LiveCounters, number: int, *rows: frames.Row) -> None:
    batch = frames.record_batch(list(rows))
    counters.take([record_of(batch, number, frames.Header(99, number, len(rows), NOW_MS, NOW_MS))])


@pytest.mark.promise("ANALYTICS-8")
@pytest.mark.parametrize("with_look", [True, False], ids=["while somebody looks", "unseen"])
def test_after_the_clock_is_set_back_the_page_goes_on_and_says_for_a_window_that_it_is_not_whole(
    with_look: bool,
) -> None:
    clock = SetClock(NOW_MS)
    counters = LiveCounters(clock)
    frame(counters, 1, click(NOW_MS - 1_000, 1), click(NOW_MS - 500, 2, 2))
    assert (counters.look(7, "").window_events, counters.look(7, "").complete) == (2, True)
    clock.set(-HOUR_S)
    anew_clock = HeldClock(clock.at_ms)
    anew = LiveCounters(anew_clock)
    if with_look:
        assert counters.look(7, "") == replace(anew.look(7, ""), complete=False)
    for number in range(2, 6):
        clock.go_on(1)
        anew_clock.at_ms = clock.at_ms
        rows = [click(clock.at_ms, number, number), click(clock.at_ms - 1_000, number + 1, 1)]
        frame(counters, number, *rows)
        frame(anew, number, *rows)
        look = counters.look(7, "")
        assert look == replace(anew.look(7, ""), complete=False)
        assert look.window_events == 2 * (number - 1)
        assert counters.second(7, "") == anew.second(7, "")
    frame(counters, 1, click(clock.at_ms))
    assert counters.look(7, "") is look, "a frame that was counted before is known again"
    clock.go_on(WINDOW_S - 5)
    assert not counters.look(7, "").complete
    clock.go_on(5 + AHEAD_S_MAX)
    assert counters.look(7, "").complete
    clock.at_ms = NOW_MS + (SETTLED_S - 1) * 1_000
    assert counters.second(7, "").total.events == 0, "what was counted before the clock was set does not come back"


@pytest.mark.promise("ANALYTICS-8")
def test_a_clock_that_is_set_by_seconds_stops_and_forgets_nothing() -> None:
    clock = SetClock(NOW_MS)
    counters = LiveCounters(clock)
    for number, seconds in enumerate((0, 1 - BACK_S_MAX, BACK_S_MAX - 1, 1 - BACK_S_MAX), 1):
        clock.set(seconds)
        frame(counters, number, click(clock.at_ms - 1_000))
        look = counters.look(7, "")
        assert (look.time_ms, look.window_events, look.complete) == (clock.at_ms, number, True)


@pytest.mark.promise("ANALYTICS-8")
def test_after_the_clock_is_set_on_no_number_is_told_as_whole_for_a_window() -> None:
    clock = SetClock(NOW_MS)
    counters = LiveCounters(clock)
    frame(counters, 1, click(NOW_MS - 1_000))
    clock.go_on(HOUR_S)
    assert counters.look(7, "").complete, "an hour that passed has nothing in it"
    clock.set(HOUR_S)
    frame(counters, 2, click(clock.at_ms - 1_000))
    look = counters.look(7, "")
    assert (look.time_ms, look.window_events, look.complete) == (clock.at_ms, 1, False)
    clock.go_on(WINDOW_S + AHEAD_S_MAX)
    assert counters.look(7, "").complete


@pytest.mark.promise("ANALYTICS-8")
def test_counters_that_stand_still_age_whenever_the_clock_is_set_back() -> None:
    clock = SetClock(NOW_MS)
    counters = LiveCounters(clock)
    counters.complete(0.0)
    clock.set(-HOUR_S)
    assert counters.freshness_ms == 0
    assert counters.complete_ms == clock.at_ms
    clock.go_on(60)
    assert counters.freshness_ms == 60_000
