"""The placement of modules in processes, read from a data file."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from groundswell.engines.errors import SupervisorError

DEFAULT = Path(__file__).with_name("topology.yaml")
REPLICAS_MAX = 4
"""Of one process on one machine: more would only share the same processors."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many replicas of a process there may be."""

    most: int
    why: str
    """In words for who asks for more."""


@dataclass(frozen=True, slots=True)
class Topology:
    """One placement: process → its modules, in the order in which they start."""

    name: str
    processes: Mapping[str, Sequence[str]]
    command: Sequence[str]
    """What starts a process; the names of its modules follow."""
    engines: Sequence[str]
    topics: Path | None
    """Folder of the files that describe topics."""
    door: str
    niceness: Mapping[str, int]
    """Nice values of modules; one that is missing has 0."""
    databases: Sequence[str]
    """The services with a database of their own in PostgreSQL."""
    alone: Mapping[str, str]
    """The modules that may not run beside another one of their kind here, and why."""
    journals: Sequence[str]
    """The modules that keep a journal, the door first if it does; behind them those of which nothing is said: they may."""

    def process_of(self, module: str) -> str | None:
        """The process that runs `module`."""
        return next((process for process, modules in self.processes.items() if module in modules), None)

    def keeps_journal(self, process: str) -> bool:
        """Whether the process holds the journal in its folder, as far as anybody knows."""
        return any(module in self.journals for module in self.processes[process])

    @property
    def sender(self) -> str | None:
        """The process that sends what journals hold that are nobody's; None when no process keeps one."""
        held = (self.process_of(module) for module in self.journals)
        return next((process for process in held if process is not None), None)

    def niceness_of(self, process: str) -> int:
        """The nice value at which the process may run without holding up any of its modules."""
        return min(self.niceness.get(module, 0) for module in self.processes[process])

    def bound_of(self, process: str) -> Bound:
        """How many replicas the process may have: one of all its modules may not be multiplied, or as many as a machine bears."""
        modules = self.processes[process]
        kept = next((module for module in modules if module in self.alone), None)
        if kept is None:
            return Bound(REPLICAS_MAX, "they would only share the same processors")
        why = self.alone[kept] if len(modules) == 1 else f"{kept} runs in it, and {self.alone[kept]}"
        return Bound(1, why)


def load(name: str, file: Path = DEFAULT) -> Topology:
    """The topology `name` of `file`; raises `SupervisorError` when there is none of that name."""
    described = yaml.safe_load(file.read_text())
    known = described["topologies"]
    if name not in known:
        raise SupervisorError(f"There is no topology {name!r}; {file.name} has {', '.join(known)}.")
    topics = described.get("topics")
    return Topology(
        name=name,
        processes=known[name],
        command=[word.format(python=sys.executable, folder=file.parent) for word in described["command"]],
        engines=described["engines"],
        topics=(file.parent / topics).resolve() if topics else None,
        door=described["door"],
        niceness=described.get("niceness", {}),
        databases=[name for name, facts in described.get("modules", {}).items() if "postgres" in facts["uses"]],
        alone=_alone(described, known[name]),
        journals=_with_journal(described, known[name]),
    )


def _alone(described: Mapping[str, Any], processes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The modules that may not be multiplied. One of which nothing is said may not: nobody knows what it keeps."""
    facts = described.get("modules", {})
    named = [module for modules in processes.values() for module in modules]
    reasons = {module: _reason(module, facts.get(module), described["door"]) for module in named}
    return {module: why for module, why in reasons.items() if why}


def _with_journal(described: Mapping[str, Any], processes: Mapping[str, Sequence[str]]) -> list[str]:
    facts = described.get("modules", {})
    kept = [module for module, told in facts.items() if told.get("keeps") == "journal"]
    unsaid = [module for modules in processes.values() for module in modules if module not in facts]
    return sorted(kept, key=lambda module: module != described["door"]) + unsaid


def _reason(module: str, facts: Mapping[str, Any] | None, door: str) -> str:
    if module == door:
        return "the public port is bound by one process"
    if facts is None:
        return f"the topology does not say what {module} keeps"
    if facts.get("processes_max") == 1:
        return f"a second {module} would take a part of what the first one has to see whole"
    match facts.get("keeps"):
        case "journal":
            return "rows in the journal of a replica that is taken away would be sent by nobody"
        case "name":
            return "the log gives it its partitions by its name, and its store is opened by one process"
    return ""
