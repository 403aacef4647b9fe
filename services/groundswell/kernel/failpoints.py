"""Named crash points. `reach(name)` does nothing unless `GROUNDSWELL_FAILPOINTS` names the point.

The variable holds `name=action@count` parts, separated by commas; the action fires at the count-th time the point is reached
(1 unless given) and only once. Actions: `kill` (the process dies as by kill -9), `stop` (SIGSTOP), `delay:SECONDS`, `error`.
Example: `GROUNDSWELL_FAILPOINTS=writer.after_intent=kill@3,relay.before_send=delay:0.5`.

`GROUNDSWELL_FAILPOINTS=@FILE` reads the points from a file instead, again whenever it changes, so that a running process can be
told to die. The file is removed before an action fires: whoever is started in the dead one's place does not die there again.
"""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from groundswell.kernel import errors

VARIABLE = "GROUNDSWELL_FAILPOINTS"


@dataclass(slots=True)
class _Point:
    action: str
    left: int


def parse(text: str) -> dict[str, _Point]:
    """The points that `text` switches on; raises `ValueError` on one that cannot be read."""
    points = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, rest = part.partition("=")
        action, _, count = rest.partition("@")
        verb = action.partition(":")[0]
        if not equals or verb not in {"kill", "stop", "delay", "error"}:
            raise ValueError(
                f"{VARIABLE}: {part!r} is not NAME=ACTION[@COUNT] with kill, stop, delay:SECONDS or error."
            )
        points[name] = _Point(action, int(count or "1"))
    return points


@dataclass(slots=True)
class _File:
    """Points that are read anew when their file changes."""

    path: Path
    changed_ns: int = 0
    points: dict[str, _Point] = field(default_factory=dict)

    def point(self, name: str) -> _Point | None:
        try:
            changed_ns = self.path.stat().st_mtime_ns
            if changed_ns != self.changed_ns:
                self.points, self.changed_ns = parse(self.path.read_text()), changed_ns
        except FileNotFoundError:
            self.points, self.changed_ns = {}, 0
        return self.points.get(name)


_told = os.environ.get(VARIABLE, "")
_file = _File(Path(_told[1:])) if _told.startswith("@") else None
_points = {} if _file else parse(_told)


def reach(name: str) -> None:
    """Marks a place where a crash must lose nothing. `delay` blocks the whole process, as a stall would."""
    if not _points and _file is None:
        return
    point = _points.get(name) if _file is None else _file.point(name)
    if point is None:
        return
    point.left -= 1
    if point.left != 0:
        return
    if _file is not None:
        _file.path.unlink(missing_ok=True)
    _act(name, point.action)


def _act(name: str, action: str) -> None:
    verb, _, argument = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif verb == "delay":
        time.sleep(float(argument or "1"))
    else:
        raise errors.Unavailable(f"The failpoint {name} fired.")
