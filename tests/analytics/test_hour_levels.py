"""A dashboard's question over a day is answered from hours, and from as few sketches of users as can be.

That such answers are exact is `test_questions`'s part; how long they take is measured by the benchmark `queries`.
"""

import pytest

from groundswell.analytics.model.questions import DAY_MS, HOUR_MS, MINUTE_MS, Filter, Question, plan

END_MS = 1_796_000_000_000 // HOUR_MS * HOUR_MS
START_MS = END_MS - DAY_MS
TOGETHER, APART, ITEMS = "ev_1h_devices", "ev_1h", "item_1h"


def asked(
    *dimensions: str, filters: tuple[str, ...] = (), interval: str = "", start_ms: int = START_MS, end_ms: int = END_MS
) -> Question:
    by = tuple(Filter(name, (1,)) for name in filters)
    return Question(("events", "users"), dimensions, by, interval, start_ms, end_ms)


def levels(question: Question) -> dict[str, list[tuple[int, int]]]:
    return {level.name: stretches for level, stretches in plan(question).items()}


@pytest.mark.promise("ANALYTICS-4")
@pytest.mark.parametrize(
    ("question", "level"),
    [
        (asked(), TOGETHER),
        (asked(interval="hour"), TOGETHER),
        (asked("kind", "device", "bot"), TOGETHER),
        (asked("kind", filters=("device", "bot", "kind"), interval="day"), TOGETHER),
        (asked("country"), APART),
        (asked("device", filters=("country",), interval="hour"), APART),
        (asked("item"), ITEMS),
        (asked("item", "kind", filters=("bot",), interval="hour"), ITEMS),
        (asked(filters=("item",), interval="hour"), ITEMS),
    ],
)
def test_a_days_question_reads_one_table_of_hours(question: Question, level: str) -> None:
    assert levels(question) == {level: [(START_MS, END_MS)]}


@pytest.mark.promise("ANALYTICS-4")
@pytest.mark.parametrize(("dimensions", "hours", "minutes"), [((), TOGETHER, "ev_1m"), (("item",), ITEMS, "item_1m")])
def test_only_the_edges_of_a_range_are_read_by_the_minute(
    dimensions: tuple[str, ...], hours: str, minutes: str
) -> None:
    start_ms, end_ms = START_MS - 20 * MINUTE_MS, END_MS + 20 * MINUTE_MS
    assert levels(asked(*dimensions, start_ms=start_ms, end_ms=end_ms)) == {
        minutes: [(start_ms, START_MS), (END_MS, end_ms)],
        hours: [(START_MS, END_MS)],
    }
