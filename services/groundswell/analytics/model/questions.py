"""A question about events, checked and in our words; and which tables answer it exactly.

A rollup can answer what its rows still tell apart. Time is cut at the rollup's buckets: the whole buckets inside the range come
from the coarsest table, the edges from finer ones, down to the raw rows, so that an answer is exact for any range that these tables still
hold. What one of them has forgotten in part is not asked of it: the question is refused, or its answer would be too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from groundswell.analytics import errors
from groundswell.analytics.model import intake
from groundswell.kernel.bus import frames

MEASURES = ("events", "users", "nonbots", "bots", "value")
DIMENSIONS = ("kind", "item", "country", "device", "bot")
FILTERS = (*DIMENSIONS, "network")
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
INTERVALS_MS = {"": 0, "second": 1_000, "minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS}
DEVICES = ("unknown", "desktop", "mobile", "tablet", "tv", "bot")
LIMIT_DEFAULT, LIMIT_MAX = 1_000, 10_000
VALUES_MAX = 1_000
VALUE_LENGTH_MAX = intake.ITEM_LENGTH_MAX
"""Characters of a filter's value: no item has more, and no kind as many."""
FILTERS_MAX = 50
RANGE_DAYS_MAX = 3 * 366
SECONDS_RANGE_MS_MAX = DAY_MS
TIME_MS_MAX = 4_102_444_800_000
"""2100-01-01: what the store's times can hold."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows whose `dimension` is one of `values` (codes as the store has them), or none of them."""

    dimension: str
    values: tuple[int | str, ...]
    exclude: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; times are half-open, in milliseconds."""

    measures: tuple[str, ...]
    dimensions: tuple[str, ...]
    filters: tuple[Filter, ...]
    interval: str
    start_ms: int
    end_ms: int
    order: str = ""
    limit: int = LIMIT_DEFAULT

    @property
    def used(self) -> frozenset[str]:
        """Dimensions that the answer needs told apart."""
        return frozenset(self.dimensions) | {each.dimension for each in self.filters}

    @property
    def wants_exact_users(self) -> bool:
        """Distinct users of single seconds are exact; of anything longer they are estimated."""
        return "users" in self.measures and (self.interval == "second" or self.end_ms - self.start_ms <= 1_000)


@dataclass(frozen=True, slots=True)
class Level:
    """One table, the length of its buckets, 0 for raw rows, and how long it keeps them: an event is there for `days` after it happened."""

    name: str
    bucket_ms: int
    days: int

    def holds(self, start_ms: int, now_ms: int) -> bool:
        """Whether nothing since `start_ms`, the beginning of a bucket, is forgotten.

        Raw rows go by when they were stored, which an event may be ahead of.
        """
        ahead_ms = 0 if self.bucket_ms else intake.EARLY_MS
        return start_ms > now_ms - self.days * DAY_MS + ahead_ms


RAW, BY_SECOND = Level("ev", 0, 31), Level("ev_1s", 1_000, 31)
BY_MINUTE, BY_HOUR = Level("ev_1m", MINUTE_MS, 90), Level("ev_1h", HOUR_MS, RANGE_DAYS_MAX)
BY_HOUR_AND_DEVICE = Level("ev_1h_devices", HOUR_MS, RANGE_DAYS_MAX)
"""Countries together: a day has a fiftieth or less of the sketches of users to merge."""
ITEM_BY_MINUTE, ITEM_BY_HOUR = Level("item_1m", MINUTE_MS, 90), Level("item_1h", HOUR_MS, 90)
"""Hours of items are kept no longer than their minutes, of which those of an older store were made."""

Stretch = tuple[int, int]
Plan = dict[Level, list[Stretch]]


def checked(question: Question, now_ms: int) -> Question:
    """The question, when it can be answered at that time; raises `QueryInvalid` naming the field."""
    _among("measures", question.measures, MEASURES)
    _among("dimensions", question.dimensions, DIMENSIONS)
    _among("filters", [each.dimension for each in question.filters], FILTERS)
    _among("interval", [question.interval], tuple(INTERVALS_MS))
    if not question.measures:
        raise errors.QueryInvalid(f"Ask for at least one measure of {', '.join(MEASURES)}.", field="measures")
    if not 0 <= question.start_ms < question.end_ms <= TIME_MS_MAX:
        raise errors.QueryInvalid("The range must start before it ends, between 1970 and 2100.", field="range")
    if question.end_ms - question.start_ms > RANGE_DAYS_MAX * DAY_MS:
        raise errors.QueryInvalid(f"A range has at most {RANGE_DAYS_MAX} days.", field="range")
    if question.interval == "second" and question.end_ms - question.start_ms > SECONDS_RANGE_MS_MAX:
        raise errors.QueryInvalid("By second, a range has at most a day.", field="interval")
    if not 0 < question.limit <= LIMIT_MAX:
        raise errors.QueryInvalid(f"limit is 1 to {LIMIT_MAX:,}.", field="limit")
    if question.order and question.order.removeprefix("-") not in (*question.measures, "time"):
        raise errors.QueryInvalid(
            "order is one of the measures or `time`, `-` before it for descending.", field="order"
        )
    if len(question.filters) > FILTERS_MAX:
        raise errors.QueryInvalid(f"A question has at most {FILTERS_MAX} filters.", field="filters")
    if any(not each.values or len(each.values) > VALUES_MAX for each in question.filters):
        raise errors.QueryInvalid(f"A filter has 1 to {VALUES_MAX:,} values.", field="filters")
    _held(question, now_ms)
    return question


def _held(question: Question, now_ms: int) -> None:
    """Raises when a table that is to answer no longer holds its whole part of the range."""
    levels = _levels(question)
    for level, stretches in plan(question).items():
        first_ms = min(start_ms for start_ms, _ in stretches)
        if level.holds(first_ms, now_ms):
            continue
        coarsest = next(each for each in levels if not each.holds(first_ms, now_ms))
        if coarsest is not levels[0]:
            unit = "minutes" if levels[levels.index(coarsest) - 1].bucket_ms == MINUTE_MS else "hours"
            raise errors.QueryInvalid(
                f"More than {coarsest.days} days back a range begins and ends with whole {unit}.", field="range"
            )
        first_s = ((now_ms + intake.EARLY_MS) // HOUR_MS + 1) * 3_600 - coarsest.days * 86_400
        narrow = _narrowing(question, coarsest.days)
        raise errors.QueryInvalid(
            f"{f'With {narrow}, questions' if narrow else 'Questions'} reach {coarsest.days:,} days back: "
            f"begin at {datetime.fromtimestamp(first_s, UTC):%Y-%m-%dT%H:%M:%SZ} or later{', or leave that out' if narrow else ''}.",
            field="range",
        )


def _narrowing(question: Question, days: int) -> str:
    """What of the question keeps it from a table that reaches further back than `days`."""
    used = question.used
    finest = {
        "the network": "network" in used,
        "the item together with country or device": "item" in used and bool(used & {"country", "device"}),
        "single seconds": question.wants_exact_users or question.interval == "second",
    }
    finer = {"the item": "item" in used, "single minutes": question.interval == "minute"}
    return " and ".join(name for name, is_asked in (finest if days == RAW.days else finer).items() if is_asked)


def _among(field: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    for each in given:
        if each not in allowed:
            raise errors.QueryInvalid(f"{each!r} is not one of {', '.join(filter(None, allowed))}.", field=field)
    if field != "filters" and len(set(given)) != len(given):
        raise errors.QueryInvalid("Name each one once.", field=field)


def code(dimension: str, text: str) -> int | str:
    """The store's form of a filter's value; raises `QueryInvalid`."""
    if len(text) > VALUE_LENGTH_MAX:
        raise errors.QueryInvalid(f"A filter's value has at most {VALUE_LENGTH_MAX} characters.", field="filters")
    if dimension == "kind":
        return text
    if dimension == "item":
        return frames.item_id(text)[0]
    if dimension == "country" and (not text or (len(text) == 2 and text.isascii() and text.isalpha())):
        return int.from_bytes(text.upper().encode(), "big") if text else 0
    if dimension == "device" and text in DEVICES:
        return DEVICES.index(text)
    if dimension == "bot" and text in ("true", "false"):
        return int(text == "true")
    if dimension == "network" and text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 1 << 32:
        return int(text)
    raise errors.QueryInvalid(f"{text[:80]!r} is no value of {dimension}.", field="filters")


def label(dimension: str, value: int | str, name: str = "") -> str:
    """The caller's form of a dimension's value."""
    if dimension == "item":
        return name or str(value)
    if dimension == "country" and isinstance(value, int):
        return value.to_bytes(2, "big").decode("ascii", "replace") if value else ""
    if dimension == "device" and isinstance(value, int):
        return DEVICES[value] if value < len(DEVICES) else str(value)
    if dimension == "bot":
        return "true" if value else "false"
    return str(value)


def plan(question: Question) -> Plan:
    """Which tables answer which part of the range."""
    chosen: Plan = {}
    _cover(question.start_ms, question.end_ms, _levels(question), chosen)
    return chosen


def _levels(question: Question) -> list[Level]:
    """Tables that tell enough apart, coarsest first, raw rows last."""
    used = question.used
    if question.wants_exact_users or "network" in used or ("item" in used and used & {"country", "device"}):
        return [RAW]
    hours = BY_HOUR if "country" in used else BY_HOUR_AND_DEVICE
    levels = [ITEM_BY_HOUR, ITEM_BY_MINUTE] if "item" in used else [hours, BY_MINUTE, BY_SECOND]
    bucket_ms = INTERVALS_MS[question.interval] or BY_HOUR.bucket_ms
    return [*(level for level in levels if level.bucket_ms <= bucket_ms), RAW]


def _cover(start_ms: int, end_ms: int, levels: Sequence[Level], chosen: Plan) -> None:
    if start_ms >= end_ms:
        return
    level, *finer = levels
    if not level.bucket_ms:
        chosen.setdefault(level, []).append((start_ms, end_ms))
        return
    first = -(-start_ms // level.bucket_ms) * level.bucket_ms
    last = end_ms // level.bucket_ms * level.bucket_ms
    if first >= last:
        _cover(start_ms, end_ms, finer, chosen)
        return
    _cover(start_ms, first, finer, chosen)
    chosen.setdefault(level, []).append((first, last))
    _cover(last, end_ms, finer, chosen)
