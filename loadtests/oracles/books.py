"""The books of a run, and the judgement over them.

A request that got no answer (its process was killed with it) may have been counted or not, and nobody can know from
its own side. So the rule is

    promised ≤ stored ≤ promised + unknown      in all, for every single link, and for the bots among them
    stored = every rollup = totals = click_count = live      exactly, with nothing set aside and no difference;
                                                             stored = click_count for every single link, too

where promised is what was answered as counted or spooled. Judging every link by itself keeps the rule sharp: a lost
click can not hide behind an unknown one of another link, nor a total that another link was credited with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loadtests.generator.child import Loaded
from loadtests.generator.log import PROMISED, Outcome

COUNTER_EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True)
class Promised:
    """What the platform answered, from the generator's log."""

    outcomes: Mapping[Outcome, int]
    by_target: Sequence[int]
    unknown_by_target: Sequence[int]
    bots: int
    unknown_bots: int

    @property
    def total(self) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in PROMISED)

    @property
    def unknown(self) -> int:
        return self.outcomes.get(Outcome.UNKNOWN, 0)

    @property
    def refused(self) -> int:
        return self.outcomes.get(Outcome.REFUSED, 0)

    @property
    def redirects(self) -> int:
        """Answered redirects, whatever was said of their views."""
        others = (Outcome.DROPPED, Outcome.SKIPPED, Outcome.UNMARKED)
        return self.total + sum(self.outcomes.get(outcome, 0) for outcome in others)


@dataclass(frozen=True, slots=True)
class Books:
    """What the platform says, read through its public door once it is quiet."""

    stored: int
    stored_by_target: Sequence[int]
    rollup_second: int
    rollup_minute: int
    rollup_hour: int
    rollup_device_hour: int
    rollup_item_minute: int
    rollup_item_hour: int
    totals: int
    click_count: int
    click_count_by_target: Sequence[int]
    bot_count: int
    live: int
    difference: int
    parked: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement: a sentence that holds or does not, and which way it is wrong where there are two."""

    name: str
    holds: bool
    sentence: str
    wrong: str = ""


def promised(loaded: Loaded, targets: int) -> Promised:
    """The generator's log, added up."""
    records, arrivals = loaded.records, loaded.plan.arrivals
    values, counts = np.unique(records["outcome"], return_counts=True)
    is_promised = np.isin(records["outcome"], [int(outcome) for outcome in PROMISED])
    is_unknown = records["outcome"] == Outcome.UNKNOWN
    target = arrivals["target"][records["arrival"]]
    is_bot = loaded.plan.is_bot()[records["arrival"]]
    return Promised(
        {Outcome(int(value)): int(count) for value, count in zip(values, counts, strict=True)},
        np.bincount(target[is_promised], minlength=targets).tolist(),
        np.bincount(target[is_unknown], minlength=targets).tolist(),
        int((is_promised & is_bot).sum()),
        int((is_unknown & is_bot).sum()),
    )


def judge(promised: Promised, books: Books) -> list[Finding]:
    """All judgements, the most telling one first."""
    return [
        _within("stored", books.stored, promised.total, promised.unknown, "clicks"),
        _each_link(promised, books),
        *(_equal(name, getattr(books, name), books.stored) for name in EQUAL_TO_STORED),
        _each_click_count(books),
        _within("bots", books.bot_count, promised.bots, promised.unknown_bots, "clicks by bots"),
        _difference(books.difference),
        _equal("parked", books.parked, 0),
        _equal("unkept views", promised.redirects - promised.total, 0),
    ]


LOST, DOUBLED = "lost", "doubled"
"""The two ways in which a count is wrong."""
ROLLUPS = (
    "rollup_second",
    "rollup_minute",
    "rollup_hour",
    "rollup_device_hour",
    "rollup_item_minute",
    "rollup_item_hour",
    "totals",
)
"""The store's rollups, as books call them."""
EQUAL_TO_STORED = (*ROLLUPS, "click_count", "live")
FINDINGS = ("stored", "each link", *EQUAL_TO_STORED, "each click_count", "bots", "difference", "parked", "unkept views")
"""What `judge` judges, by name."""


def _within(name: str, found: int, least: int, unknown: int, what: str) -> Finding:
    holds = least <= found <= least + unknown
    if holds:
        return Finding(name, True, f"{found:,} {what}: {least:,} promised, {found - least} of {unknown} unknown ones")
    told = f"{least - found:,} lost" if found < least else f"{found - least - unknown:,} too many"
    sentence = f"{found:,} {what}, but {least:,} were promised and {unknown} are unknown: {told}"
    return Finding(name, False, sentence, LOST if found < least else DOUBLED)


def _difference(found: int) -> Finding:
    """What the log holds less what the store does, by the platform's own books: no click without an answer can hide in it."""
    held = _equal("difference", found, 0)
    return held if held.holds else replace(held, wrong=LOST if found > 0 else DOUBLED)


def _each_link(promised: Promised, books: Books) -> Finding:
    rows = zip(books.stored_by_target, promised.by_target, promised.unknown_by_target, strict=True)
    wrong = [
        f"link {number}: {stored} stored, {least} promised, {unknown} unknown"
        for number, (stored, least, unknown) in enumerate(rows)
        if not least <= stored <= least + unknown
    ]
    return _of_links("each link", len(books.stored_by_target), wrong)


def _each_click_count(books: Books) -> Finding:
    rows = zip(books.click_count_by_target, books.stored_by_target, strict=True)
    wrong = [
        f"link {number}: {counted} by its click_count, {stored} stored"
        for number, (counted, stored) in enumerate(rows)
        if counted != stored
    ]
    return _of_links("each click_count", len(books.stored_by_target), wrong)


def _of_links(name: str, count: int, wrong: Sequence[str]) -> Finding:
    if not wrong:
        return Finding(name, True, f"the same holds for each of {count} links")
    return Finding(name, False, f"{len(wrong)} links are wrong; " + "; ".join(wrong[:COUNTER_EXAMPLES_MAX]))


def _equal(name: str, found: int, wanted: int) -> Finding:
    return Finding(name, found == wanted, f"{found:,}" if found == wanted else f"{found:,}, should be {wanted:,}")
