"""What a benchmark found."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from loadtests.reports.journal import commit, machine

RESULTS = Path(__file__).parent / "results"


class Skipped(Exception):
    """The benchmark needs what is not there; the message says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its reference. `bound` is the least ratio, or with `bound_on_value` the least value (`at_most`: the greatest)."""

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    bound: float
    bound_on_value: bool = False
    at_most: bool = False
    others_hold: bool = True
    """Whether the further bounds hold that stand among the details."""
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.value / self.reference_value if self.reference_value else 0.0

    @property
    def ok(self) -> bool:
        measured = self.value if self.bound_on_value else self.ratio
        return self.others_hold and (measured <= self.bound if self.at_most else measured >= self.bound)

    def machine(self) -> dict[str, object]:
        """The one line that machines read."""
        told = asdict(self)
        for name in ("bound_on_value", "at_most", "others_hold"):
            del told[name]
        return told | {"value": round(self.value, 3), "reference_value": round(self.reference_value, 3),
                       "ratio": round(self.ratio, 3), "ok": self.ok}  # fmt: skip


def save(result: Result) -> None:
    """Keeps the result with the commit and the machine that it holds for."""
    RESULTS.mkdir(exist_ok=True)
    told = result.machine() | {"commit": commit(), "machine": machine()}
    (RESULTS / f"{result.name}.json").write_text(json.dumps(told, indent=1) + "\n")
    (RESULTS / "README.md").write_text(_page([json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def median(values: Sequence[float]) -> float:
    """The middle round, which a disturbed one does not move."""
    return statistics.median(values)


def _page(results: Sequence[Mapping[str, object]]) -> str:
    lines = [
        "# Results",
        "",
        "Made by `make bench`; each file here holds one result with its details.",
        "",
        "| benchmark | value | reference | its value | ratio | bound | held | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        held = "yes" if each["ok"] else "**no**"
        lines.append(
            f"| {each['name']} | {each['value']} {each['unit']} | {each['reference']} | {each['reference_value']} | {each['ratio']} "
            f"| {each['bound']} | {held} | {each['commit']} |"
        )
    machines = {
        f"{m['system']}, {m['cores']} cores, {m['memory_gb']} GB, Python {m['python']}, homes on {m.get('homes_on', 'unknown')}"
        for each in results
        if isinstance(m := each["machine"], dict)
    }
    return "\n".join([*lines, "", *(f"Machine: {each}." for each in sorted(machines)), ""])
