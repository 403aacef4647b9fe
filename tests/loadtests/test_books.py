"""The judgement over the books: what it must find, and what it must not blame."""

from dataclasses import replace

import pytest

from loadtests.generator.log import Outcome
from loadtests.oracles.books import ROLLUPS, Books, Promised, judge

PROMISED = Promised(
    {Outcome.SPOOLED: 90, Outcome.COUNTED: 10, Outcome.UNKNOWN: 3}, [60, 40], [3, 0], bots=5, unknown_bots=1
)
RIGHT = Books(
    stored=101,
    stored_by_target=[61, 40],
    **dict.fromkeys(ROLLUPS, 101),
    click_count=101,
    click_count_by_target=[61, 40],
    bot_count=5,
    live=101,
    difference=0,
    parked=0,
    duplicates=2,
)


def wrong(books: Books, promised: Promised = PROMISED) -> set[str]:
    return {finding.name for finding in judge(promised, books) if not finding.holds}


def test_right_books_are_right_with_unknown_requests_counted_or_not() -> None:
    """Goal: a request whose answer was killed is nobody's fault."""
    assert wrong(RIGHT) == set()


def test_one_lost_click_of_a_link_without_unknown_requests_is_found_though_the_sum_would_hide_it() -> None:
    """DRILLS-8. Goal: unknown requests of one link are no cover for another. Method: lose one click there, keep the sum in range."""
    assert wrong(replace(RIGHT, stored_by_target=[62, 39], click_count_by_target=[62, 39])) == {"each link"}


@pytest.mark.parametrize("number", [*ROLLUPS, "click_count", "live"])
def test_every_number_must_equal_what_is_stored(number: str) -> None:
    """DRILLS-8. Goal: one click more or less in any one place is found."""
    for by_one in (-1, 1):
        changed = replace(RIGHT, **{number: 101 + by_one})  # type: ignore[arg-type]  # the names are those of whole numbers
        assert wrong(changed) == {number}


def test_a_total_that_another_link_was_credited_with_is_found_though_the_sum_is_right() -> None:
    found = judge(PROMISED, replace(RIGHT, click_count_by_target=[60, 41]))
    (each,) = [finding for finding in found if not finding.holds]
    assert each.name == "each click_count"
    assert "link 0: 60 by its click_count, 61 stored; link 1: 41 by its click_count, 40 stored" in each.sentence


def test_lost_and_doubled_clicks_are_told_apart() -> None:
    """Goal: the sentence says what happened."""
    lost = next(each for each in judge(PROMISED, replace(RIGHT, stored=98)) if each.name == "stored")
    doubled = next(each for each in judge(PROMISED, replace(RIGHT, stored=105)) if each.name == "stored")
    assert "2 lost" in lost.sentence
    assert "2 too many" in doubled.sentence


def test_bots_that_are_counted_as_people_are_found() -> None:
    """Goal: LINKS-5 holds for both kinds apart."""
    assert wrong(replace(RIGHT, bot_count=4)) == {"bots"}


def test_views_that_the_door_did_not_keep_are_found() -> None:
    """Goal: a dropped view is an answered one that is in no total, and is not passed over in silence."""
    outcomes = {**PROMISED.outcomes, Outcome.DROPPED: 1}
    assert wrong(RIGHT, replace(PROMISED, outcomes=outcomes)) == {"unkept views"}


def test_books_that_do_not_balance_are_found() -> None:
    assert wrong(replace(RIGHT, difference=1)) == {"difference"}
    assert wrong(replace(RIGHT, parked=1)) == {"parked"}
