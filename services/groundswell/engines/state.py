"""state.json: what runs now, for people, drills and the console.

    {"version": 1, "topology": "each", "url": "http://127.0.0.1:8080", "started": 1767225600.0,
     "supervisor": {"pid": 1, "started": 1767225600.0}, "processes": [{"name": "kafka", "kind": "engine", …}, …],
     "replicas": {"links": {"desired": 2, "ready": 2, "most": 4, "version": 1767225600001, "by": "user"}, …}}

The second replica of `links` is a process `links-2`, and so on. Times are seconds since 1970. A pid names a process only together with
its start time. The file is replaced by renaming, so a reader never sees half of it. It holds what the user has set, passwords in
addresses included, so it is its owner's alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from groundswell.engines import json_files

VERSION = 1

Condition = Literal["starting", "ready", "stopped", "backing-off", "failed"]
"""`backing-off`: it crashed and will be started again; `failed`: it could not be started at all, and is tried again."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process or engine."""

    name: str
    kind: Literal["engine", "process"]
    state: Condition
    since: float
    """When `state` began."""
    pid: int | None
    started: float | None
    """When the process began; None while there is none."""
    restarts: int
    """Starts after a crash; those that were asked for do not count."""
    log: str
    data: str
    modules: Sequence[str] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Variables that `restart --set` added."""
    last_exit: str = ""
    """How it ended the last time it crashed."""


@dataclass(frozen=True, slots=True)
class ReplicasState:
    """How many of one process there are to be."""

    desired: int
    ready: int
    most: int
    """That there may be."""
    version: int
    """Rises with every change of `desired`, over restarts of the supervisor too."""
    by: str
    """Who set `desired` last; empty when nobody has."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the supervisor keeps."""

    topology: str
    url: str
    started: float
    supervisor: dict[str, float]
    processes: Sequence[ProcessState]
    given: dict[str, str] = field(default_factory=dict)
    """Addresses of engines that are the user's own, by variable."""
    replicas: dict[str, ReplicasState] = field(default_factory=dict)
    """By process."""
    version: int = VERSION

    def holder(self, name: str) -> ProcessState | None:
        """The engine or process of that name, or the process that runs the module."""
        named = (each for each in self.processes if each.name == name)
        return next(named, None) or next((each for each in self.processes if name in each.modules), None)

    def address(self, variable: str) -> str | None:
        """The address in `variable` as every process is told it."""
        found = [each.addresses[variable] for each in self.processes if variable in each.addresses]
        return self.given.get(variable) or next(iter(found), None)


def write(file: Path, state: State) -> None:
    """Replaces the file at once."""
    json_files.write(file, asdict(state), lasting=False)


def read(file: Path) -> State | None:
    """The last state that was written; None when there is none that is whole and of this version."""
    try:
        found = json.loads(file.read_text())
        if found["version"] != VERSION:
            return None
        replicas = {name: ReplicasState(**each) for name, each in found.get("replicas", {}).items()}
        processes = [ProcessState(**each) for each in found["processes"]]
        return State(**{**found, "processes": processes, "replicas": replicas})
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
