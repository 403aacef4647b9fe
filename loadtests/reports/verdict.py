"""The demo's verdict, for people and for machines."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loadtests.generator import histogram
from loadtests.generator.log import Outcome
from loadtests.oracles.books import ROLLUPS, Finding
from loadtests.oracles.freshness import Percentiles
from loadtests.scenario import CatchUp, Ran, Verdict

WIDTH = 78
HEADLINES = {
    Verdict.PASSED: "Every answered visit is in the books, once.",
    Verdict.FAILED: "THE BOOKS ARE WRONG.",
    Verdict.INVALID: "The books are right, but this run was not as ordered and PROVES TOO LITTLE.",
}


_TITLES = {
    "rollup_second": "rollup by second",
    "rollup_minute": "rollup by minute",
    "rollup_hour": "rollup by hour",
    "rollup_device_hour": "rollup by device, hour",
    "rollup_item_minute": "items by minute",
    "rollup_item_hour": "items by hour",
    "totals": "totals of the items",
}


@dataclass(frozen=True, slots=True)
class Report:
    """A run in words and in JSON."""

    ran: Ran
    told: Percentiles
    seen: Percentiles
    seconds: float

    def text(self, *, page: str, stop: str | None) -> str:
        """For a person; `stop` is the command that stops the platform, None when that is being done."""
        end = [f"  live page   {page}", f"  stop        {stop}"] if stop else ["  The platform is being stopped."]
        lines = [
            "",
            "─" * WIDTH,
            f"  {HEADLINES[self.ran.verdict]}",
            "─" * WIDTH,
            *self._rows(),
            "",
            *self._remarks(),
            "",
            *end,
            "─" * WIDTH,
        ]
        return "\n".join(lines)

    def _rows(self) -> list[str]:
        promised, books = self.ran.promised, self.ran.books
        counted, spooled = (promised.outcomes.get(each, 0) for each in (Outcome.COUNTED, Outcome.SPOOLED))
        judged = {finding.name: finding for finding in self.ran.findings}
        return [
            _row("visits answered", promised.redirects),
            _row("  as counted", counted),
            _row("  as spooled", spooled),
            *([_row("visits refused", promised.refused)] if promised.refused else []),
            _row("stored", books.stored, judged["stored"]),
            *(_row(_TITLES[name], getattr(books, name), judged[name]) for name in ROLLUPS),
            _row("links' click_count", books.click_count, judged["click_count"], judged["each click_count"]),
            _row("live page", books.live, judged["live"]),
            _row("of these by bots", books.bot_count, judged["bots"]),
        ]

    def _remarks(self) -> list[str]:
        ran, unknown = self.ran, self.ran.promised.unknown
        wrong = [f"  ✗ {finding.name}: {finding.sentence}" for finding in ran.findings if not finding.holds]
        killed = ", ".join(
            f"{kill.title} at {kill.at_s:.0f} s (back in {kill.back_s - kill.at_s:.1f} s)" for kill in ran.struck
        )
        catch_ups = ran.catch_ups()
        extra = ran.books.stored - ran.promised.total
        silent = f"  no answer   {unknown} visits, because the process that held them was killed; {extra} of them had been counted"
        p99_ms = histogram.of(ran.loaded.records["latency_us"]).percentile_us(0.99) / 1000
        return [
            *wrong,
            *(f"  ✗ {doubt}" for doubt in ran.doubts()),
            f"  killed      {killed or 'nothing'}",
            *([silent] if unknown else []),
            *([f"  caught up   the live page held all again {_caught_up(catch_ups)}"] if catch_ups else []),
            f"  freshness   {_told(self.told)} (event to live counter, between kills and what had to be caught up)",
            f"              {_told(self.seen)} (the page behind the answers, measured here)",
            *([] if wrong else [f"  quiet       the books were right {ran.settled_s:.1f} s after the load"]),
            f"  latency     {p99_ms:,.0f} ms p99 from the planned moment, kills included",
            f"  memory      {sum(ran.memory_bytes.values()) / 2**20:,.0f} MB resident, all processes",
            f"  took        {self.seconds:.0f} s in all",
        ]

    def machine(self) -> dict[str, object]:
        """For a machine; `rollups` is the common number of all rollups, or the first that is wrong.

        A kill after which the live page was behind has `caught_up`, when it held all again; null when nobody saw that.
        """
        promised, books = self.ran.promised, self.ran.books
        rollups = {name: getattr(books, name) for name in ROLLUPS}
        caught_up = {each.kill: _or_none(each.caught_up_s) for each in self.ran.catch_ups()}
        return {
            "ok": self.ran.verdict is Verdict.PASSED,
            "verdict": self.ran.verdict,
            "doubts": self.ran.doubts(),
            "answered": promised.redirects,
            "counted": promised.outcomes.get(Outcome.COUNTED, 0),
            "spooled": promised.outcomes.get(Outcome.SPOOLED, 0),
            "stored": books.stored,
            "rollups": next((each for each in rollups.values() if each != books.stored), books.stored),
            "totals": books.totals,
            "click_count": books.click_count,
            "live": books.live,
            "kills": [
                {
                    "process": kill.process,
                    "at": round(kill.at_s, 2),
                    "victim": kill.victim,
                    "back": round(kill.back_s, 2),
                    **({"caught_up": caught_up[kill]} if kill in caught_up else {}),
                }
                for kill in self.ran.struck
            ],
            "freshness_ms": {"p50": self.told.p50, "p99": self.told.p99, "samples": self.told.samples},
            "rss_mb": round(sum(self.ran.memory_bytes.values()) / 2**20),
            "seconds": round(self.seconds, 1),
            "unknown": promised.unknown,
            "unanswered_counted": books.stored - promised.total,
            "refused": promised.refused,
            **rollups,
            "bots": books.bot_count,
            "difference": books.difference,
            "duplicates_dropped": books.duplicates,
            "page_lag_ms": {"p50": self.seen.p50, "p99": self.seen.p99},
            "settled_seconds": round(self.ran.settled_s, 1),
            "memory_mb": {name: round(size / 2**20) for name, size in self.ran.memory_bytes.items()},
            "load": {
                "planned": len(self.ran.loaded.plan),
                "late": self.ran.loaded.late,
                "unsent": self.ran.loaded.unsent,
                "plan": self.ran.loaded.plan.digest,
            },
            "findings": [asdict(finding) for finding in self.ran.findings],
        }


def _caught_up(catch_ups: Sequence[CatchUp]) -> str:
    after_s = {each.kill.victim: each.caught_up_s - each.kill.at_s for each in catch_ups}
    return ", ".join(
        f"{seconds:.1f} s after the kill of {victim}" if math.isfinite(seconds) else f"never after the kill of {victim}"
        for victim, seconds in after_s.items()
    )


def _or_none(seconds: float) -> float | None:
    return round(seconds, 2) if math.isfinite(seconds) else None


def _told(lag: Percentiles) -> str:
    if lag.p50 is None or lag.p99 is None:
        return "not measured"
    return f"{lag.p50:.0f} ms median, {lag.p99:.0f} ms p99 of {lag.samples} samples"


def _row(name: str, number: int, *findings: Finding) -> str:
    mark = "" if not findings else "✓" if all(each.holds for each in findings) else "✗"
    return f"  {name:<24}{number:>12,}  {mark}".rstrip()
