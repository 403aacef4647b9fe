"""The supervisor's state file: which processes this machine runs.

It is another program's file, so whatever is missing or unreadable in it is simply not known.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as the supervisor sees it; `pid` and `started_ms` are 0 while it does not run."""

    name: str
    state: str
    pid: int
    restarts: int
    resident_bytes: int
    started_ms: int


class SupervisorState:
    """Reads the file anew each time it is asked; `path` empty means that there is no supervisor."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None

    def read(self) -> list[Process]:
        """The processes in the file; none when it is absent or of a kind that this version does not know."""
        if self._path is None:
            return []
        try:
            entries = json.loads(self._path.read_bytes())["processes"]
            return [_process(entry) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def _process(entry: dict[str, Any]) -> Process:
    pid = int(entry.get("pid") or 0)
    return Process(
        name=str(entry["name"]),
        state=str(entry["state"]),
        pid=pid,
        restarts=int(entry.get("restarts") or 0),
        resident_bytes=_resident_bytes(pid) if pid else 0,
        started_ms=int(float(entry.get("started") or 0) * 1000),
    )


def _resident_bytes(pid: int) -> int:
    """Resident memory, 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
