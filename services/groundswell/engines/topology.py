"""The placement of modules in processes, read from a data file."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from groundswell.engines.errors import SupervisorError

DEFAULT = Path(__file__).with_name("topology.yaml")


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

    def process_of(self, module: str) -> str | None:
        """The process that runs `module`."""
        return next((process for process, modules in self.processes.items() if module in modules), None)

    def niceness_of(self, process: str) -> int:
        """The nice value at which the process may run without holding up any of its modules."""
        return min(self.niceness.get(module, 0) for module in self.processes[process])


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
    )
