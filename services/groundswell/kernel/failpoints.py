"""Named crash points. `reach(name)` does nothing unless `GROUNDSWELL_FAILPOINTS` names the point.

The variable holds `name=action@count` parts, separated by commas; the action fires at the count-th time the point is reached
(1 unless given) and only once. Actions: `kill` (the process dies as by kill -9), `stop` (SIGSTOP), `delay:SECONDS`, `error`.
Example: `GROUNDSWELL_FAILPOINTS=writer.after_intent=kill@3,relay.before_send=delay:0.5`.
"""

import os
import signal
import time
from dataclasses import dataclass

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


_points = parse(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Marks a place where a crash must lose nothing. `delay` blocks the whole process, as a stall would."""
    if not _points:
        return
    point = _points.get(name)
    if point is None:
        return
    point.left -= 1
    if point.left != 0:
        return
    verb, _, argument = point.action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif verb == "delay":
        time.sleep(float(argument or "1"))
    else:
        raise errors.Unavailable(f"The failpoint {name} fired.")
