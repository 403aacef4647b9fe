"""A drill's outcome: in words, and as the journal that machines read (version 1)."""

import os
import platform
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil

from loadtests.drills.spec import Control, Drill
from loadtests.generator import histogram
from loadtests.generator.log import PROMISED
from loadtests.scenario import Ran, Verdict

VERSION = 1
WIDTH = 78
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the load as it was answered."""

    at_s: int
    promised: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Journal:
    """One run of a drill, or of one of its controls."""

    drill: Drill
    profile: str
    seed: int
    control: Control | None
    ran: Ran
    ended: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @property
    def verdict(self) -> Verdict:
        return self.ran.verdict

    @property
    def control_holds(self) -> bool:
        """Whether the control failed where and as its file says, by books that had come to rest: late ones are no proof."""
        wrong = {(finding.name, finding.wrong) for finding in self.ran.findings if not finding.holds}
        return self.control is not None and self.ran.steady and (self.control.fails, self.control.by) in wrong

    @property
    def command(self) -> str:
        """How to repeat this run."""
        control = f" CONTROL={self.control.name}" if self.control else ""
        return f"make drill NAME={self.drill.name} PROFILE={self.profile} SEED={self.seed}{control}"

    @property
    def headline(self) -> str:
        if self.control is None:
            return f"{self.drill.name}: {self.verdict}"
        if self.control_holds:
            return f"{self.drill.name}, control {self.control.name}: FAILED at `{self.control.fails}`, as it must"
        return f"{self.drill.name}, control {self.control.name}: {self.verdict}, but it had to fail at `{self.control.fails}`"

    def text(self, folder: Path) -> str:
        """For a person at a terminal."""
        marks = {True: "✓", False: "✗"}
        findings = [f"  {marks[each.holds]} {each.name:<19}{each.sentence}" for each in self.ran.findings]
        doubts = [f"  ✗ {doubt}" for doubt in self.ran.doubts()]
        refused = [f"    {'refused':<19}{self.ran.promised.refused:,} visits"] if self.ran.promised.refused else []
        page = f"  page  {folder / 'report.html'}"
        return "\n".join(
            ["", "─" * WIDTH, f"  {self.headline}", "─" * WIDTH, *findings, *refused, *doubts, page, "─" * WIDTH]
        )

    def seconds(self) -> list[Second]:
        """The load by the second in which it was answered."""
        records = self.ran.loaded.records
        second = records["at_us"] // 1_000_000
        is_promised = np.isin(records["outcome"], [int(outcome) for outcome in PROMISED])
        found = []
        for at_s in range(int(second.max()) + 1 if len(second) else 0):
            mine = second == at_s
            p99_ms = histogram.of(records["latency_us"][mine & is_promised]).percentile_us(0.99) / 1000
            found.append(Second(at_s, int((mine & is_promised).sum()), round(p99_ms, 1)))
        return found

    def machine(self) -> dict[str, object]:
        """The journal."""
        ran, profile = self.ran, self.drill.profile(self.profile)
        return {
            "version": VERSION,
            "drill": self.drill.name,
            "promises": list(self.drill.promises),
            "hypothesis": self.drill.hypothesis,
            "spec": self.drill.digest,
            "profile": {"name": self.profile, **asdict(profile)},
            "seed": self.seed,
            "control": asdict(self.control) if self.control else None,
            "command": self.command,
            "commit": commit(),
            "machine": machine(),
            "ended": self.ended,
            "verdict": self.verdict,
            "control_holds": self.control_holds if self.control else None,
            "doubts": ran.doubts(),
            "findings": [asdict(finding) for finding in ran.findings],
            "books": asdict(ran.books),
            "settled_s": round(ran.settled_s, 1),
            "load": {
                "plan": ran.loaded.plan.digest,
                "ordered": len(ran.loaded.plan),
                "rate": round(len(ran.loaded.plan) / profile.seconds, 1),
                "late": ran.loaded.late,
                "unsent": ran.loaded.unsent,
                "outcomes": {outcome.name.lower(): count for outcome, count in ran.promised.outcomes.items()},
            },
            "faults": [asdict(kill) for kill in ran.struck],
            "seconds": [asdict(second) for second in self.seconds()],
            "memory_mb": {name: round(size / 2**20) for name, size in ran.memory_bytes.items()},
        }


def commit() -> str:
    """The commit of the sources, `+` behind it when they were changed since; empty outside a checkout."""
    told = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


def machine() -> dict[str, object]:
    """What this machine is, without its name."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "homes_on": _file_system(Path(tempfile.gettempdir()).resolve()),
    }


def _file_system(folder: Path) -> str:
    """Its kind: one in memory takes the making of a file out of a figure, and some on disks make it the greater part."""
    mounted = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    return next((mounted[above] for above in (folder, *folder.parents) if above in mounted), "")
