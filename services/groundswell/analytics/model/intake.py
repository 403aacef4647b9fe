"""The rules of intake: which events are taken, which are set aside and why, and in which time they land."""

import re
from dataclasses import dataclass

from groundswell.kernel.bus import frames

BATCH_EVENTS_MAX = 10_000
ITEM_LENGTH_MAX = 512
USER_LENGTH_MAX = 256
PROPERTIES_BYTES_MAX = 32_000
LATE_MS = 24 * 3_600_000
"""Older than this an event is marked late; it still lands in its own time."""
AGE_MS_MAX = 30 * 24 * 3_600_000
EARLY_MS = 5 * 60_000
"""Further ahead than this an event is taken to have happened now, and marked."""
SKEW_MS_MIN = 1_000
"""A client's clock that is this close to ours is not corrected: the way of the request takes as long."""

VALUE_MAX = 1e15
"""Sums of values this large are exact to a whole, and stay finite however many there are."""
OWN_KINDS = frozenset({"click"})
"""Kinds that the platform counts itself: a client that could send them would forge the totals of links."""

_KIND = re.compile(r"[a-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a client sent it; `time_ms` None means now, `properties` is JSON or empty."""

    kind: str
    item: str
    user_id: str
    anonymous_id: str
    time_ms: int | None
    value: float
    properties: str


@dataclass(frozen=True, slots=True)
class Landing:
    """When an event happened by our clock, and the flags that say what was done about it."""

    time_ms: int
    flags: int


def fault(event: Event) -> str | None:
    """Why an event is set aside; None when it is taken. (A time that is too old is judged by `landing`.)"""
    if not _KIND.fullmatch(event.kind):
        return "kind must be 1 to 64 of a-z, 0-9, _ and ."
    if event.kind in OWN_KINDS:
        return f"kind {event.kind} is counted by the platform itself; send the event under a kind of your own"
    if len(event.item) > ITEM_LENGTH_MAX:
        return f"item must have at most {ITEM_LENGTH_MAX} characters"
    if bool(event.user_id) == bool(event.anonymous_id):
        return "one of user_id and anonymous_id must be set"
    if len(event.user_id or event.anonymous_id) > USER_LENGTH_MAX:
        return f"user_id and anonymous_id must have at most {USER_LENGTH_MAX} characters"
    if not abs(event.value) <= VALUE_MAX:  # so that it catches NaN
        return f"value must lie within {VALUE_MAX:.0e} of 0"
    if len(event.properties.encode()) > PROPERTIES_BYTES_MAX:
        return f"properties must have at most {PROPERTIES_BYTES_MAX:,} bytes"
    return None


def landing(time_ms: int | None, sent_ms: int | None, now_ms: int) -> Landing | None:
    """Where an event lands in time; None when it is over 30 days old.

    A client whose clock is off by more than a second (it says when it sent) has its times moved by that error.
    """
    if time_ms is None:
        return Landing(now_ms, 0)
    skew_ms = now_ms - sent_ms if sent_ms is not None else 0
    corrected = time_ms + (skew_ms if abs(skew_ms) >= SKEW_MS_MIN else 0)
    if corrected > now_ms + EARLY_MS:
        return Landing(now_ms, frames.EARLY)
    if corrected < now_ms - AGE_MS_MAX:
        return None
    return Landing(corrected, frames.LATE if corrected < now_ms - LATE_MS else 0)
