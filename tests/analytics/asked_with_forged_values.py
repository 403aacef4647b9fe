"""Asks a store of two tenants with values that were made to break out of a statement, and compares each answer with a plain model.

Both tenants have rows of every such value, as kind, as item and as an item's name, half of them rolled up. A child process, since a
process may open one embedded store only. Prints for each filter `{"answered": n, "refused": [values], "wrong": [...]}`, and under "names"
what was not refused of forged names.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from groundswell.analytics.errors import QueryInvalid
from groundswell.analytics.model import questions
from groundswell.analytics.model.questions import DEVICES, FILTERS, HOUR_MS
from groundswell.analytics.rpc.store import StoreRpc
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import BookStore
from groundswell.analytics.store.queries import QueryStore
from groundswell.analytics.store.ranges import Content, Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2
from groundswell.kernel import clickhouse, rpc
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey

MINE, OTHER, PARTITIONS = 7, 8, 2
FORGED = (
    "'", "''", '"', "`", "\\", "\\'", "\\\\'", "{v0:String}", "{v0:UInt64}", "{v1:Array(String)}", "$v0", "%s", "%(v0)s", "?",
    "' OR 1=1", "' OR 1=1 --", "') OR tenant = 8 OR has(['", "') UNION ALL SELECT * FROM analytics.ev --", "'] OR 1=1 /*", "*/", ";",
    "$$", "\0", "a\0b", "\n", "\r\n\t\b", "\\N", "\\0", "NULL", "7", "8", "0", "-1", "18446744073709551615", "tenant", "é𝒳", "\u202e",
    "x" * questions.VALUE_LENGTH_MAX, "",
)  # fmt: skip
TOO_LONG = "x" * (questions.VALUE_LENGTH_MAX + 1)
COUNTRIES, NETWORKS = ("", "DE", "OR"), ("0", "7", "8")

Row = dict[str, str]
"""A row in a caller's words, as a value of each filter."""


def rows_of(tenant: int) -> Iterator[Row]:
    """Of each value another number of rows, and of another tenant's never as many. No event has an empty kind."""
    for number, text in enumerate(FORGED):
        for each in range(number % 4 + 1 + (tenant == OTHER) * 5):
            yield {
                "kind": text or "view",
                "item": text or "0",
                "country": COUNTRIES[each % 3],
                "device": DEVICES[each % len(DEVICES)],
                "bot": ("false", "true")[each % 2],
                "network": NETWORKS[(number + each) % 3],
            }


def content(rows: list[Row], tenant: int, partition: int, ts_ms: int) -> Content:
    count, named = len(rows), [frames.item_id(row["item"]) for row in rows]
    codes = {
        name: [questions.code(name, row[name]) for row in rows] for name in ("country", "device", "network", "bot")
    }
    table = pa.table(
        {
            "ts": pa.array([ts_ms] * count, pa.timestamp("ms", "UTC")),
            "kind": [row["kind"] for row in rows],
            "tenant": pa.array([tenant] * count, pa.uint64()),
            "item": pa.array([item for item, _ in named], pa.uint64()),
            "name": [name for _, name in named],
            "user": pa.array(range(count), pa.uint64()),
            "network": pa.array(codes["network"], pa.uint32()),
            "country": pa.array(codes["country"], pa.uint16()),
            "device": pa.array(codes["device"], pa.uint8()),
            "flags": pa.array(codes["bot"], pa.uint8()),
            "_p": pa.array([partition] * count, pa.uint8()),
            "_t": pa.array([ts_ms // 1_000] * count, pa.timestamp("s", "UTC")),
        }
    )
    nothing = pa.table({"_p": pa.array([], pa.uint8())})
    return Content(table, nothing, nothing, nothing)


def asked(name: str, value: str, exclude: bool, dimensions: tuple[str, ...], hour_ms: int) -> pb.RunQueryRequest:
    request = pb.RunQueryRequest(measures=["events"], dimensions=dimensions, limit=questions.LIMIT_MAX)
    request.filters.add(dimension=name, values=[value], exclude=exclude)
    request.range.start.FromMilliseconds(hour_ms)
    request.range.end.FromMilliseconds(hour_ms + HOUR_MS)
    return request


def model(rows: list[Row], request: pb.RunQueryRequest) -> dict[tuple[str, ...], int]:
    (given,) = request.filters
    wanted = "0" if given.dimension == "item" and not given.values[0] else given.values[0]
    chosen = [row for row in rows if (row[given.dimension] == wanted) != given.exclude]
    return dict(Counter(tuple(row[name] for name in request.dimensions) for row in chosen))


async def answer(store: StoreRpc, request: pb.RunQueryRequest) -> dict[tuple[str, ...], int]:
    call = rpc.Call(Context(MINE), RequestKey())
    found = (await store.QueryStore(live_pb2.QueryStoreRequest(query=request), call)).answer
    return {
        tuple(row.dimensions[name] for name in request.dimensions): int(row.measures["events"]) for row in found.rows
    }


async def with_filter(store: StoreRpc, name: str, rows: list[Row], hour_ms: int) -> dict[str, object]:
    """What came of every value in the filter `name`, taken and left out, beside one dimension and another."""
    answered, refused, wrong = 0, set(), []
    dimensions = dict.fromkeys([(), ("kind",), ("item",), *([(name,)] if name in questions.DIMENSIONS else [])])
    cases = [
        (value, exclude, each) for value in (*FORGED, TOO_LONG) for exclude in (False, True) for each in dimensions
    ]
    for value, exclude, each in cases:
        request = asked(name, value, exclude, each, hour_ms)
        try:
            found, wanted = await answer(store, request), model(rows, request)
        except QueryInvalid as error:
            refused |= {value} if names_of(error) == ["filters"] else set()
            continue
        answered += 1
        if found != wanted:
            wrong.append(f"{value!r}, {exclude=}, by {each}: {found}, should be {wanted}"[:500])
    return {"answered": answered, "refused": sorted(refused), "wrong": wrong}


async def with_names(store: StoreRpc, hour_ms: int) -> list[str]:
    """Forged names of measures, dimensions, filters, intervals and orders that were not refused, or not by their field."""
    taken = []
    for value in FORGED[:-1]:
        for field in ("measures", "dimensions", "filters", "interval", "order"):
            request = asked("kind", "view", False, (), hour_ms)
            match field:
                case "measures" | "dimensions":
                    getattr(request, field).append(value)
                case "filters":
                    request.filters.add(dimension=value, values=["1"])
                case _:
                    setattr(request, field, value)
            try:
                await answer(store, request)
                taken.append(f"{value!r} in {field}")
            except QueryInvalid as error:
                taken += [] if names_of(error) == [field] else [f"{value!r} in {field}: {error.message}"]
    return taken


def names_of(error: QueryInvalid) -> list[str]:
    """The fields of the request that a refusal names."""
    return [violation.field for violation in error.fields]


async def main(folder: str) -> None:
    hour_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS - HOUR_MS
    rows = {tenant: list(rows_of(tenant)) for tenant in (MINE, OTHER)}
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}", niceness=0)) as store:
        await schema.create(store, 1_000)
        rollups, told = RollupStore(store, "frames"), {}
        for tenant, mine in rows.items():
            for partition in range(PARTITIONS):
                part = content(mine[partition::PARTITIONS], tenant, partition, hour_ms + 1)
                await RangeStore(store, str(tenant)).write(Range(partition, 0, 0), part)
        await rollups.write([Range(0, 0, 0)])
        queries = QueryStore(store, PARTITIONS, rollups.adding)
        asks = StoreRpc(Answering(queries, BookStore(store), SystemClock(), 1, store.callers))
        for name in FILTERS:
            told[name] = await with_filter(asks, name, rows[MINE], hour_ms)
        names = await with_names(asks, hour_ms)
    print(json.dumps(told | {"names": names}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
