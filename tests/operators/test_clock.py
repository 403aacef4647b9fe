"""What time it is by the answers of an API server, whose clock and ours are told apart."""

from __future__ import annotations

import itertools
import random
from email.utils import formatdate

import pytest

from groundswell_operator.applying.requests import OFF_S_MAX, Clock

TRAVEL_S_MAX = 0.2
SEED = 20_261_129


class Clocks:
    """The API server's, this machine's, which is off by so much, and one that nobody sets, which began with either."""

    def __init__(self, off_s: float) -> None:
        self.passed_s, self.off_s, self.set_s = 0.0, off_s, 0.0
        self.clock = Clock(lambda: round(self.true_s() + self.off_s, 3), lambda: self.passed_s)

    def true_s(self) -> float:
        return 1_764_000_000.25 + self.passed_s + self.set_s

    def ask(self, chance: random.Random) -> None:
        """A request, and its answer, which says the whole seconds of the moment at which it was made."""
        asked_s = self.passed_s
        self.passed_s += chance.random() * TRAVEL_S_MAX / 2
        date = formatdate(self.true_s(), usegmt=True)
        self.passed_s += chance.random() * TRAVEL_S_MAX / 2
        self.clock.hear({"Date": date}, asked_s)

    def error_s(self) -> float:
        return self.clock.now_s() - self.true_s()


@pytest.mark.parametrize("off_s", [-400.0, -3.0, -2.5, -1.5, -0.5, 0.0, 0.5, 1.2, 1.8, 2.5, 3.0, 400.0])
def test_however_far_the_own_clock_is_off_the_time_does_not_go_to_and_fro(off_s: float) -> None:
    """A second between two answers is between the two clocks where the own is off by one to three."""
    clocks, chance = Clocks(off_s), random.Random(SEED)
    by_own: list[bool] = []
    before_s = 0.0
    for number in range(500):
        clocks.passed_s += chance.random() * 3
        clocks.ask(chance)
        now_s = clocks.clock.now_s()
        by_own.append(abs(clocks.error_s() - off_s) < 0.002)
        assert number < 20 or now_s >= before_s, "time goes on"
        before_s = now_s
    assert sum(one != other for one, other in itertools.pairwise(by_own)) <= 1
    assert abs(clocks.error_s()) <= (abs(off_s) if abs(off_s) < OFF_S_MAX else TRAVEL_S_MAX) + 0.002


@pytest.mark.parametrize("set_s", [-300.0, -5.0, 5.0, 300.0])
def test_a_clock_of_the_api_server_that_is_set_is_gone_by_at_its_next_answer(set_s: float) -> None:
    clocks, chance = Clocks(0.0), random.Random(SEED)
    for _ in range(50):
        clocks.passed_s += 1
        clocks.ask(chance)
    clocks.set_s, clocks.off_s = set_s, -set_s
    clocks.ask(chance)
    assert abs(clocks.error_s()) <= 1 + TRAVEL_S_MAX


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}])
def test_an_answer_that_does_not_say_what_time_it_is_changes_nothing(headers: dict[str, str]) -> None:
    clocks = Clocks(400.0)
    clocks.clock.hear(headers, 0.0)
    assert clocks.error_s() == pytest.approx(400.0)
