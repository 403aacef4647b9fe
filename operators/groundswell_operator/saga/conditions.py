"""Conditions that keep the moment of their last transition, and what people are told of each transition."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from groundswell_operator.saga.state import SPIKE_GENERATION, Condition
from groundswell_operator.saga.steps import Told

Conditions = Mapping[str, Condition]
MESSAGE_MAX = 1_000
"""Characters: of a hundred policies over one target each would be named otherwise, and an API server takes no more than 32,768."""
ROOM = len(" … and 99999 more")
PARTS = re.compile("[,;] | and ")


def with_condition(
    found: Conditions,
    kind: str,
    status: bool,
    reason: str,
    message: str,
    now_s: float,
    generation: int = SPIKE_GENERATION,
) -> Conditions:
    """The conditions with one of them set; its time changes with its status only. The same object where nothing changes. A message is cut
    to `MESSAGE_MAX`, so that what is read is what was decided, and no object is refused for it."""
    before = found.get(kind)
    since_s = before.since_s if before is not None and before.status == status else now_s
    condition = Condition(kind, status, reason, brief(message), since_s, generation)
    return found if condition == before else {**found, kind: condition}


def brief(message: str) -> str:
    """A message, or as many of its parts as there is room for, and how many others there are."""
    if len(message) <= MESSAGE_MAX:
        return message
    room = message[: MESSAGE_MAX - ROOM]
    ends = [each.start() for each in PARTS.finditer(room)]
    kept = room[: ends[-1]] if ends else room
    more = len(PARTS.findall(message, len(kept)))
    return f"{kept}{f' … and {more} more' if more else '…'}"


def told(uid: str, before: Conditions, after: Conditions) -> list[Told]:
    """One for each condition whose status or reason has changed. Its key is made of what it changed from, so a repeat has the same."""
    return [
        Told(_key(uid, before.get(kind), condition), condition)
        for kind, condition in after.items()
        if (old := before.get(kind)) is None or (old.status, old.reason) != (condition.status, condition.reason)
    ]


def _key(uid: str, before: Condition | None, after: Condition) -> str:
    old = f"{before.since_s:.3f} {before.reason}" if before else ""
    words = "\n".join((uid, after.type, old, str(after.status), after.reason))
    return hashlib.sha256(words.encode()).hexdigest()[:16]
