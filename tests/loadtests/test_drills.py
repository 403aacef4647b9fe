"""A drill's file, its draws and its journal: what is refused, what is repeated, what is told."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtests.drills import draw, spec
from loadtests.faults.kills import Kill, Struck
from loadtests.generator.child import Loaded
from loadtests.generator.log import RECORD, Outcome
from loadtests.oracles.books import Finding, judge
from loadtests.reports.journal import Journal
from loadtests.reports.page import page
from loadtests.scenario import Ran, Verdict
from tests.analytics.test_writer_crash import FAILPOINTS
from tests.loadtests.test_books import PROMISED, RIGHT

EVENT_KILL = spec.load("event-kill")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The file of event-kill with one change."""
    text = (spec.FOLDER / "event-kill.yaml").read_text()
    assert old in text
    file = tmp_path / "changed.yaml"
    file.write_text(text.replace(old, new, 1))
    return file


@pytest.mark.parametrize("name", spec.names())
def test_every_drill_can_be_read_and_has_a_control(name: str) -> None:
    drill = spec.load(name)
    assert drill.name == name
    assert drill.controls


@pytest.mark.parametrize("name", spec.names())
def test_the_crash_points_of_every_drill_are_points_at_which_the_writer_is_known_to_die(name: str) -> None:
    """A point that no code reaches kills nobody, and the run ends without a verdict after all its minutes."""
    points = {way for ways in spec.load(name).kills.values() for way in ways if "." in way}
    assert points <= set(FAILPOINTS)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("links: 40", "links: forty", "line 7: 'forty' is not of type 'integer'"),
        ("fails: stored", "fails: stroed", "Did you mean stored?"),
        ("kills: 10}", "kills: 3}", "3 kills do not reach every victim"),
        (
            "seconds: 40",
            "seconds: 676",
            "line 12: a load lasts 675 s at most; the live page, which is judged, holds 900 s.",
        ),
        ("skew: 1.0", "skwe: 1.0", "'skwe' was unexpected"),
        ("topology: each", "topology: [", "is no YAML"),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(spec.SpecInvalid) as refused:
        spec.read(changed(tmp_path, old, new))
    assert says in str(refused.value)


def test_an_unknown_drill_profile_or_control_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(spec.SpecInvalid, match="Did you mean event-kill"):
        spec.load("event-kil")
    with pytest.raises(spec.SpecInvalid, match="There are: ci, small"):
        EVENT_KILL.profile("huge")
    with pytest.raises(spec.SpecInvalid, match="Did you mean journal-off"):
        EVENT_KILL.control("jounal-off")


def test_the_same_seed_draws_the_same_plan_and_kills_and_another_seed_others() -> None:
    """DRILLS-4."""
    profile = EVENT_KILL.profile("ci")
    first, again, other = (draw.plan_of(EVENT_KILL, profile, seed).digest for seed in (1, 1, 2))
    assert first == again != other
    first_kills, again_kills, other_kills = (draw.kills_of(EVENT_KILL, profile, seed) for seed in (1, 1, 2))
    assert first_kills == again_kills != other_kills


@pytest.mark.parametrize("profile_name", ["ci", "small"])
@pytest.mark.parametrize("seed", range(5))
def test_every_victim_dies_as_often_as_the_others_within_the_load(profile_name: str, seed: int) -> None:
    profile = EVENT_KILL.profile(profile_name)
    kills = draw.kills_of(EVENT_KILL, profile, seed)
    times = Counter(kill.victim for kill in kills)
    assert len(kills) == profile.kills
    assert set(times) == set(EVENT_KILL.kills)
    assert max(times.values()) - min(times.values()) <= 1
    assert all(0 < kill.at_s < profile.seconds * 0.9 for kill in kills)
    assert all(kill.how in EVENT_KILL.kills[kill.victim] for kill in kills)


def ran(findings: list[Finding] | None = None, *, late: int = 0, struck_at_s: float = 5.0) -> Ran:
    """A run of a hundred arrivals and one kill."""
    drill = replace(EVENT_KILL, links=len(PROMISED.by_target))
    plan = draw.plan_of(drill, replace(EVENT_KILL.profile("small"), clicks=100), 1)
    records = np.zeros(100, RECORD)
    records["outcome"], records["at_us"] = Outcome.SPOOLED, plan.arrivals["at_us"]
    struck = [Struck("writer", "writer", "kill", 1, struck_at_s, struck_at_s + 2)]
    ordered = [Kill(5.0, "writer")]
    right = judge(PROMISED, RIGHT) if findings is None else findings
    return Ran(
        Loaded(plan, records, late, 0, 0.0), ordered, struck, PROMISED, RIGHT, right, 1.0, [], {"writer": 1 << 20}, True
    )


def test_a_run_with_load_or_kills_other_than_ordered_is_invalid_and_a_wrong_number_is_a_failure_all_the_same() -> None:
    """DRILLS-1. Goal: nothing passes that was not put to the test."""
    assert ran().verdict is Verdict.PASSED
    assert ran(late=3).verdict is Verdict.INVALID
    assert ran(struck_at_s=40.0).verdict is Verdict.INVALID
    assert replace(ran(), struck=[]).verdict is Verdict.INVALID
    lost = judge(PROMISED, replace(RIGHT, stored=98))
    assert ran(lost, late=3).verdict is Verdict.FAILED


@pytest.mark.parametrize(("name", "holds"), [("journal-off", "lost"), ("no-tokens", "doubled")])
def test_a_control_holds_only_when_it_fails_where_and_as_its_file_says(name: str, holds: str) -> None:
    """DRILLS-10. Goal: neither a passing control nor one that fails elsewhere, or the other way, is taken for a proof."""
    endings = {
        "lost": judge(PROMISED, replace(RIGHT, stored=PROMISED.total - 1)),
        "too many": judge(PROMISED, replace(RIGHT, stored=PROMISED.total + PROMISED.unknown + 1)),
        "doubled": judge(PROMISED, replace(RIGHT, difference=-1)),
        "missing": judge(PROMISED, replace(RIGHT, difference=1)),
        "elsewhere": judge(PROMISED, replace(RIGHT, live=98)),
        "nowhere": None,
    }
    control = EVENT_KILL.control(name)
    held = [
        each for each, found in endings.items() if Journal(EVENT_KILL, "small", 1, control, ran(found)).control_holds
    ]
    assert held == [holds]
    unsettled = replace(ran(endings[holds]), steady=False)
    assert not Journal(EVENT_KILL, "small", 1, control, unsettled).control_holds


def test_the_page_is_one_file_with_the_verdict_the_kills_and_the_command_and_asks_no_network() -> None:
    journal = Journal(EVENT_KILL, "small", 7, None, ran())
    text = page(journal)
    assert "event-kill: PASSED" in text
    assert "make drill NAME=event-kill PROFILE=small SEED=7" in text
    assert "writer" in text
    assert "http" not in text
    told = json.loads(json.dumps(journal.machine()))
    assert (told["version"], told["verdict"], told["faults"][0]["process"]) == (1, "PASSED", "writer")
