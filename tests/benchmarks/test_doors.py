"""What the benchmark `redirect` makes of the books: fast answers that nobody counted are no counted redirects."""

from dataclasses import replace

import pytest

from benchmarks import doors
from benchmarks.flood import CONNECTIONS, UNDER_WAY
from loadtests.oracles.books import ROLLUPS, Books

FLOODS = [1_000, 2_000, 2_500]


def books(stored: int) -> Books:
    """Books that are of one mind."""
    return Books(
        stored=stored,
        stored_by_target=[stored],
        **dict.fromkeys(ROLLUPS, stored),
        click_count=stored,
        click_count_by_target=[stored],
        bot_count=0,
        live=stored,
        difference=0,
        parked=0,
        duplicates=0,
    )


@pytest.mark.parametrize("under_way", [0, 1, len(FLOODS) * CONNECTIONS * UNDER_WAY])
def test_what_the_floods_were_answered_is_in_the_books_and_at_most_what_was_under_way_beside_it(under_way: int) -> None:
    assert all(finding.holds for finding in doors.judged(FLOODS, books(sum(FLOODS) + under_way)))


@pytest.mark.parametrize("wrong", [-1, len(FLOODS) * CONNECTIONS * UNDER_WAY + 1])
def test_one_click_that_was_dropped_or_doubled_does_not_hold(wrong: int) -> None:
    found = {finding.name: finding.holds for finding in doors.judged(FLOODS, books(sum(FLOODS) + wrong))}
    assert (found["stored"], found["each link"]) == (False, False)


def test_a_total_that_is_not_what_is_stored_does_not_hold() -> None:
    right = books(sum(FLOODS))
    found = doors.judged(FLOODS, replace(right, click_count=right.stored - 1))
    assert [finding.name for finding in found if not finding.holds] == ["click_count"]
