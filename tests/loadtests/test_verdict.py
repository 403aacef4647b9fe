"""What the demo tells of a run: the lateness of its live page, its kills by name, and how to stop what it leaves running."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.faults.kills import Struck
from loadtests.generator.child import Progress
from loadtests.generator.log import Outcome
from loadtests.oracles import freshness
from loadtests.oracles.books import judge
from loadtests.oracles.freshness import Sample
from loadtests.platform.installation import ROOT, stop_command
from loadtests.reports.screen import Screen
from loadtests.reports.verdict import Report
from loadtests.scenario import Ran, Verdict
from tests.loadtests.test_books import PROMISED, RIGHT
from tests.loadtests.test_drills import ran

KILL = Struck("writer", "all", "kill", 1, 5.0, 7.0)
"""The load of `ran` lasts 40 s."""


def seen(samples: Sequence[Sample], *struck: Struck) -> Ran:
    return replace(ran(), samples=samples, struck=struck)


def report(run: Ran) -> Report:
    calm = run.calm_samples()
    return Report(run, freshness.told(calm), freshness.seen(calm, run.loaded), 60.0)


def every_quarter(first_s: float, last_s: float, told_ms: int, *, is_complete: bool) -> list[Sample]:
    """The page's messages from `first_s` until before `last_s`."""
    count = int((last_s - first_s) * 4)
    return [Sample(first_s + number / 4, told_ms, 100, is_complete) for number in range(count)]


REBUILT = [
    *every_quarter(0, 5, 80, is_complete=True),
    *every_quarter(7, 20, 30_000, is_complete=False),
    *every_quarter(20, 40, 90, is_complete=True),
]


def test_the_time_in_which_dead_counters_are_rebuilt_is_no_freshness_and_is_told_by_itself() -> None:
    """Goal: a page that says that it is not complete is not late as well; how long that took is a figure of its own."""
    told = report(seen(REBUILT, KILL))
    assert told.told.p99 is not None
    assert told.told.p99 < 100
    assert told.told.samples == 20 + 79
    assert "the live page held all again 15.0 s after the kill of writer" in told.text(page="", stop=None)
    machine = json.loads(json.dumps(told.machine()))
    assert machine["kills"][0]["caught_up"] == 20.0
    assert {"p50", "p99"} <= set(machine["freshness_ms"])


def test_a_page_that_has_caught_up_is_late_whatever_was_killed_before() -> None:
    """Goal: from the first message that holds all on nothing is excused, and neither is an incomplete page that no kill explains.

    The histogram is exact to a hundredth.
    """
    late = [*REBUILT[:-80], *every_quarter(20, 40, 9_000, is_complete=True)]
    assert (report(seen(late, KILL)).told.p99 or 0) >= 0.99 * 9_000
    assert (report(seen(REBUILT)).told.p99 or 0) >= 0.99 * 30_000
    unharmed = [*every_quarter(0, 20, 80, is_complete=True), *every_quarter(20, 40, 30_000, is_complete=False)]
    assert (report(seen(unharmed, KILL)).told.p99 or 0) >= 0.99 * 30_000


def test_events_that_waited_while_the_victim_was_away_are_no_lateness_until_the_page_has_them() -> None:
    """Goal: a page that is complete lacks what had not come to the log. Method: at 7 s some of the load's events were promised."""
    run = seen([], KILL)
    events = int((freshness.promised_s(run.loaded) < KILL.back_s).sum())
    assert events > 1
    behind = [replace(each, events=events - 1) for each in every_quarter(7, 20, 30_000, is_complete=True)]
    told = report(replace(run, samples=[*REBUILT[:20], *behind, *every_quarter(20, 40, 90, is_complete=True)]))
    assert told.told.samples == 20 + 79
    assert "held all again 15.0 s after the kill of writer" in told.text(page="", stop=None)


def test_a_kill_that_leaves_the_page_whole_says_nothing_of_catching_up() -> None:
    told = report(seen(every_quarter(0, 40, 80, is_complete=True), Struck("writer", "writer", "kill", 1, 5.0, 7.0)))
    assert told.ran.catch_ups() == []
    assert "held all again" not in told.text(page="", stop=None)
    assert "writer at 5 s" in told.text(page="", stop=None)


def test_a_page_that_never_catches_up_says_so_and_measures_nothing_after_the_kill() -> None:
    told = report(seen(REBUILT[:-80], KILL))
    assert told.told.samples == 20
    assert "never after the kill of writer" in told.text(page="", stop=None)
    assert json.loads(json.dumps(told.machine()))["kills"][0]["caught_up"] is None


def test_a_kill_is_called_by_what_was_meant_also_when_one_process_holds_everything() -> None:
    assert "writer in the process all at 5 s" in report(seen(REBUILT, KILL)).text(page="", stop=None)


def promised(outcomes: dict[Outcome, int], by_target: Sequence[int] = (60, 40)) -> Ran:
    return replace(ran(), promised=replace(PROMISED, outcomes=outcomes, by_target=by_target))


def test_refused_visits_are_shown_and_only_where_there_are_any() -> None:
    told = report(promised({Outcome.SPOOLED: 87, Outcome.REFUSED: 13}))
    assert [line.split() for line in told.text(page="", stop=None).splitlines() if "refused" in line] == [
        ["visits", "refused", "13"]
    ]
    assert told.ran.verdict is Verdict.PASSED, "so many kills refuse"
    assert "refused" not in report(ran()).text(page="", stop=None)


def test_a_run_that_did_not_serve_a_quarter_of_its_visits_is_invalid() -> None:
    """Of visits that were promised nothing the books can say nothing."""
    for outcomes in (
        {Outcome.SPOOLED: 74, Outcome.REFUSED: 26},
        {Outcome.SPOOLED: 74, Outcome.REFUSED: 13, Outcome.UNKNOWN: 13},
    ):
        run = promised(outcomes)
        assert run.verdict is Verdict.INVALID
        assert "26% of the visits were not served" in report(run).text(page="", stop=None)
    assert promised({Outcome.SPOOLED: 75, Outcome.REFUSED: 25}).verdict is Verdict.PASSED


def test_a_run_in_which_a_link_was_never_served_is_invalid_however_few_its_visits_are() -> None:
    run = promised({Outcome.SPOOLED: 100}, (100, 0))
    assert run.verdict is Verdict.INVALID
    assert run.doubts() == ["no visit to 1 of the links was answered as counted or spooled: 1"]


def test_only_books_that_are_right_are_called_right_after_the_load() -> None:
    assert "the books were right 1.0 s after the load" in report(ran()).text(page="", stop=None)
    wrong = ran(judge(PROMISED, replace(RIGHT, stored=98)))
    assert "the books were right" not in report(wrong).text(page="", stop=None)


def test_progress_shows_a_dash_while_the_counters_are_not_complete(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    for second, sample in enumerate((REBUILT[0], REBUILT[20], None), start=1):
        screen.watch(Progress(elapsed_s=float(second)), sample)
    assert [line.split("live page")[1].strip() for line in capsys.readouterr().out.splitlines()] == ["100", "–", "none"]


def test_the_command_that_stops_the_platform_works_where_it_is_shown() -> None:
    """It is `make down` beside the Makefile, else a program that is there, by its shortest path."""
    program = Path(sys.executable).parent / "groundswell"
    assert program.is_file()
    assert stop_command(Path(".groundswell"), ROOT) == stop_command(ROOT / ".groundswell", ROOT) == "make down"
    assert (
        stop_command(Path("my home"), program.parents[1]) == f"{program.parent.name}/groundswell down --home 'my home'"
    )
    for elsewhere in (program.parent, program.parent / "elsewhere"):
        assert shlex.split(stop_command(Path("home"), elsewhere)) == [str(program), "down", "--home", "home"]
