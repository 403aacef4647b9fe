"""What a level has forgotten is not asked of it: a question that reaches too far back is refused, with words that help.

Goal: an answer is exact or none. Method: questions at the edges of what each level keeps, and the words followed; last, a real store
whose rows of a forgotten time are gone.
"""

import asyncio
import json
import re
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from groundswell.analytics import errors
from groundswell.analytics.model import questions
from groundswell.analytics.model.intake import EARLY_MS
from groundswell.analytics.model.questions import DAY_MS, HOUR_MS, MINUTE_MS, Filter, Question

NOW_MS = 1_796_000_000_123
HOUR_NOW_MS = NOW_MS // HOUR_MS * HOUR_MS


def asked(back_ms: int, **more: object) -> Question:
    """A question over a range that begins so long before this hour and ends with it."""
    plain = Question(("events",), (), (), "", HOUR_NOW_MS - back_ms, HOUR_NOW_MS)
    return replace(plain, **more)  # type: ignore[arg-type]  # each case names fields of a question


def refusal(question: Question) -> str:
    """Why it is refused; empty when it is answered."""
    try:
        questions.checked(question, NOW_MS)
    except errors.QueryInvalid as error:
        refused = error
    else:
        return ""
    assert [each.field for each in refused.fields] == ["range"]
    return refused.message


BY_NETWORK = (Filter("network", (1,)),)
NARROW: list[tuple[int, dict[str, object], str]] = [
    (31, {"filters": BY_NETWORK}, "the network"),
    (31, {"dimensions": ("item", "country")}, "the item together with country or device"),
    (90, {"dimensions": ("item",)}, "the item"),
    (90, {"dimensions": ("country",), "interval": "minute"}, "single minutes"),
    (questions.RANGE_DAYS_MAX, {"interval": "day"}, ""),
]


@pytest.mark.promise("ANALYTICS-9")
@pytest.mark.parametrize(("days", "more", "narrow"), NARROW)
def test_a_question_reaches_back_as_far_as_its_level_and_whoever_does_as_the_refusal_says_is_answered(
    days: int, more: dict[str, object], narrow: str
) -> None:
    assert refusal(asked(days * DAY_MS - HOUR_MS, **more)) == ""
    words = refusal(asked(days * DAY_MS, **more))
    assert words.startswith(
        f"With {narrow}, questions reach {days} days" if narrow else f"Questions reach {days:,} days"
    )
    assert ("leave that out" in words) == bool(narrow)
    begin = re.search(r"begin at (\S+) or later", words)
    assert begin
    start_ms = int(datetime.fromisoformat(begin[1]).timestamp() * 1_000)
    assert refusal(replace(asked(0, **more), start_ms=start_ms, end_ms=HOUR_NOW_MS)) == ""


@pytest.mark.promise("ANALYTICS-9")
def test_single_seconds_reach_as_far_back_as_raw_rows() -> None:
    for back_ms, is_answered in (31 * DAY_MS - HOUR_MS, True), (31 * DAY_MS, False):
        question = asked(back_ms, interval="second", end_ms=HOUR_NOW_MS - back_ms + DAY_MS - HOUR_MS)
        assert (refusal(question) == "") == is_answered
        assert is_answered or "single seconds" in refusal(question)


@pytest.mark.promise("ANALYTICS-9")
def test_raw_rows_are_asked_for_nothing_that_came_ahead_of_its_time_and_may_be_gone() -> None:
    """Goal: a raw row goes a month after it was stored, which an event may be ahead of, so the last minutes of that month are not whole."""
    first_ms = NOW_MS - 31 * DAY_MS + EARLY_MS
    for start_ms, is_answered in (first_ms, False), (first_ms + 1, True):
        question = replace(asked(0, filters=(Filter("network", (1,)),)), start_ms=start_ms, end_ms=HOUR_NOW_MS)
        assert (refusal(question) == "") == is_answered


@pytest.mark.promise("ANALYTICS-9")
@pytest.mark.parametrize(
    ("days", "off_ms", "words"),
    [
        (91, 0, ""),
        (91, 17 * MINUTE_MS, "More than 90 days back a range begins and ends with whole hours."),
        (60, 17 * MINUTE_MS, ""),
        (60, 17 * MINUTE_MS + 1_000, "More than 31 days back a range begins and ends with whole minutes."),
        (91, 1, "More than 90 days back a range begins and ends with whole hours."),
        (30, 1, ""),
    ],
)
def test_the_edges_of_a_range_are_as_coarse_as_what_is_kept_of_them(days: int, off_ms: int, words: str) -> None:
    """An edge off the hour is another level's part, which forgets sooner."""
    begins = asked(days * DAY_MS - off_ms)
    ends = asked((days + 1) * DAY_MS, end_ms=HOUR_NOW_MS - days * DAY_MS + off_ms)
    assert [refusal(begins), refusal(ends)] == [words] * 2


@pytest.mark.promise("ANALYTICS-9")
async def test_what_a_store_has_forgotten_is_answered_from_what_it_keeps_or_refused(tmp_path: Path) -> None:
    """Method: rows of 91 and 60 days ago in all rollups, the tables cleaned up as their own bounds say, questions with random edges."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.analytics.asked_long_after",
        str(tmp_path / "clickhouse"),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await child.communicate()
    found = json.loads(told)
    assert found["wrong"] == []
    assert found["answered"] > 20
    assert found["refused"] > 20
