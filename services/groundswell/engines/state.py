"""state.json: what runs now, for people, drills and the console.

    {"version": 1, "topology": "each", "url": "http://127.0.0.1:8080", "started": 1767225600.0,
     "supervisor": {"pid": 1, "started": 1767225600.0}, "processes": [{"name": "kafka", "kind": "engine", …}, …]}

Times are seconds since 1970. A pid names a process only together with its start time. The file is replaced by renaming, so a
reader never sees half of it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

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
class State:
    """Everything that the supervisor keeps."""

    topology: str
    url: str
    started: float
    supervisor: dict[str, float]
    processes: Sequence[ProcessState]
    version: int = VERSION


def write(file: Path, state: State) -> None:
    """Replaces the file at once."""
    fresh = file.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(json.dumps(asdict(state), indent=1))
    fresh.replace(file)


def read(file: Path) -> State | None:
    """The last state that was written; None when there is none, or one of another version."""
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    if found.get("version") != VERSION:
        return None
    return State(**{**found, "processes": [ProcessState(**each) for each in found["processes"]]})
