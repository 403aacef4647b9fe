"""In which hours the raw rows of a range lie, as its writer noted: a statement that is told looks into their parts alone.

Raw rows lie in a part for each hour, partition and month, and what is asked for by offsets would be looked for in every one of them, three
times a rollup. A writer notes the hours of a range with the row of `frames` that says that the range is stored, from the very rows that it
stored. What it repeats, or stores where rows were before it came, it notes as of any hour, since those may be somebody else's. A range that
an older writer stored, or that was given up in part, has no note. So a statement is narrowed only where notes cover all of its offsets, and
then misses no row.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range
from groundswell.kernel.clickhouse import ClickHouse

HOUR_MAX = 2**32 - 1
HOURS_TOLD = 2**32 // schema.HOUR_S
"""The store tells hours by 32 bits of seconds since 1970: so many as a whole."""


class Hours(NamedTuple):
    """Hours since 1970, both included, in which rows lie that did not come late."""

    first: int
    last: int


ANY = Hours(0, HOUR_MAX)
NONE = Hours(HOUR_MAX, 1)
"""All came late. A note never ends with hour 0, which stands for no note."""


def of_rows(rows: pa.Table) -> Hours:
    """The hours of these rows, which are as the store gets them. The part of late ones is looked into whatever is noted."""
    parts = schema.raw_parts(rows)
    hours = parts[parts != 0]
    if not len(hours):
        return NONE
    first, last = int(hours.min()), int(hours.max())
    return Hours(first, last) if first > 0 and last < HOURS_TOLD else ANY


async def noted(store: ClickHouse, of: Sequence[Range]) -> Mapping[Range, Hours]:
    """The hours of those ranges whose every offset a note covers."""
    among = " OR ".join(
        f"(_p = {{p{n}:UInt8}} AND _o >= {{a{n}:UInt64}} AND first <= {{b{n}:UInt64}})" for n in range(len(of))
    )
    bound = {
        f"{name}{n}": value
        for n, each in enumerate(of)
        for name, value in (("p", each.partition), ("a", each.first), ("b", each.last))
    }
    answer = await store.query(
        f"SELECT _p, first, _o, hour_first, hour_last FROM {schema.FRAMES} WHERE tenant = 0 AND hour_last != 0 AND ({among}) "
        "ORDER BY _p, first, _o",
        bound,
        own=True,
    )
    notes: dict[int, list[tuple[int, int, Hours]]] = {}
    for partition, first, last, hour_first, hour_last in answer.rows:
        notes.setdefault(int(partition), []).append((int(first), int(last), Hours(int(hour_first), int(hour_last))))
    found = {each: _over(each, notes.get(each.partition, ())) for each in of}
    return {each: hours for each, hours in found.items() if hours is not None}


def _over(of: Range, notes: Sequence[tuple[int, int, Hours]]) -> Hours | None:
    """All hours of these notes, which ascend; None where they leave an offset of the range out."""
    at = of.first
    for first, last, _ in notes:
        if first > at:
            return None
        at = max(at, last + 1)
    if at <= of.last:
        return None
    return Hours(min(hours.first for _, _, hours in notes), max(hours.last for _, _, hours in notes))


def columns(first: int, hours: Hours, count: int) -> dict[str, pa.Array]:
    """The notes of `count` rows of `frames`, of which the last says that the range from `first` on is stored in these hours."""
    values = {
        "first": (first, pa.uint64()),
        "hour_first": (hours.first, pa.uint32()),
        "hour_last": (hours.last, pa.uint32()),
    }
    alone = np.arange(count) == count - 1
    return {
        name: pa.array(np.where(alone, value, 0).astype(np.uint64)).cast(kind) for name, (value, kind) in values.items()
    }
