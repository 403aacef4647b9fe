"""The rules of intake: which events are taken, which are set aside and why, and in which time they land."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from groundswell.kernel.bus import frames

BATCH_EVENTS_MAX = 10_000
ITEM_LENGTH_MAX = 512
USER_LENGTH_MAX = 256
PROPERTIES_BYTES_MAX = 32_000
PROPERTIES_DEPTH_MAX = 20
"""Objects and lists inside each other; the properties themselves are the first."""
PROPERTIES_MAX = 512
"""Names in all objects together."""
PROPERTY_NAME_LENGTH_MAX = 128
PATH_SHOWN_LENGTH_MAX = 200
LATE_MS = 24 * 3_600_000
"""Older than this an event is marked late; it still lands in its own time."""
AGE_MS_MAX = 30 * 24 * 3_600_000
EARLY_MS = 5 * 60_000
"""Further ahead than this an event is taken to have happened now, and marked."""
SKEW_MS_MIN = 1_000
"""A client's clock that is this close to ours is not corrected: the way of the request takes as long."""

UNIT_AHEAD_MS = 24 * 3_600_000
"""A time in a wrong unit is looked for up to so far ahead: the client's clock may be off as well."""
_UNITS = ((1_000, 1), (1, 1_000), (1, 1_000_000), (1, 1_000_000_000))
"""What a time in a wrong unit is multiplied with and divided by: seconds that were read as milliseconds; milliseconds, microseconds and
nanoseconds that were read as seconds, which are microseconds and nanoseconds that were read as milliseconds as well."""

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
    return _properties_fault(event.properties) if event.properties else None


def in_milliseconds(time_ms: int | None, now_ms: int) -> int | None:
    """A time in the unit that it must be in: repaired when it lies far off and, in another unit, in the days that events are taken from.

    That is certain: read in the next smaller unit, these days are three quarters of an hour of January 1970; in a larger one, they are
    tens of thousands of years ahead.
    """
    if time_ms is None or _is_near(time_ms, now_ms):
        return time_ms
    repaired = (time_ms * times // parts for times, parts in _UNITS)
    return next((each for each in repaired if _is_near(each, now_ms)), time_ms)


def _is_near(time_ms: int, now_ms: int) -> bool:
    return now_ms - AGE_MS_MAX <= time_ms <= now_ms + UNIT_AHEAD_MS


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


def _properties_fault(text: str) -> str | None:
    """The first bound that the properties break, with the path to where they do."""
    try:
        properties = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "properties must be JSON"
    count = 0
    for path, depth, value in _containers(properties):
        if depth > PROPERTIES_DEPTH_MAX:
            return f"{_shown(path)} nests deeper than {PROPERTIES_DEPTH_MAX}"
        if not isinstance(value, dict):
            continue
        if long := next((name for name in value if len(name) > PROPERTY_NAME_LENGTH_MAX), None):
            return f"{_shown(path)} has a name of over {PROPERTY_NAME_LENGTH_MAX} characters: {long[:32]}…"
        count += len(value)
        if count > PROPERTIES_MAX:
            return f"properties must have at most {PROPERTIES_MAX} names, and {_shown(path)} goes beyond"
    return None


def _shown(path: str) -> str:
    return path if len(path) <= PATH_SHOWN_LENGTH_MAX else f"{path[:PATH_SHOWN_LENGTH_MAX]}…"


def _containers(properties: Any) -> Iterator[tuple[str, int, Any]]:
    """Each object and list with its path and depth, outer ones first; whoever stops at a bound never looks deeper."""
    waiting = [("properties", 1, properties)]
    for path, depth, value in waiting:
        yield path, depth, value
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [
            (f"{path}.{key}" if isinstance(key, str) else f"{path}[{key}]", depth + 1, each)
            for key, each in inner
            if isinstance(each, dict | list)
        ]
