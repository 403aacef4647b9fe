"""Dashboard questions over a day of rollups, each kind of them, over the store's own service.

The day is made straight in the rollup tables, in the form in which a full rate leaves it: every hour and minute in 300 groups (50
countries, 3 devices, people and bots) of each of four partitions; hours with full sketches of their users; busiest items by the minute;
the last ten minutes by second; and a second of a million raw rows that no rollup holds yet. What a machine cannot make in a minute is
smaller, and its questions are answered faster here than at a full rate: a minute's group has a sketch of 8 users instead of thousands (full
ones are 20 GB a day), an item's hour one of 3, and a minute has 1,250 items in each partition, where an hour has 50,000.

Questions go to StoreService over gRPC, one after the other, as the collector's module asks them for RunQuery. The figure is the 95th
percentile of all of them. The reference is the engine's own answer to the same question over the same tables, written by hand, without
markers and raw rows: what it costs to be exact.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.result import Result
from groundswell.analytics.clients import Store
from groundswell.analytics.model.questions import DAY_MS, HOUR_MS, MINUTE_MS
from groundswell.analytics.rpc.store import StoreRpc
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import BookStore
from groundswell.analytics.store.queries import QueryStore
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.engines import ports
from groundswell.kernel import access, clickhouse, rpc
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.rpc.client import Signer

P95_MS_MAX, LONGEST_MS_MAX = 200.0, 1_000.0
ROUNDS = 20
TENANT, PARTITIONS, MARK = 7, 4, 1_000
COUNTRIES, DEVICES, BOTS = 50, 3, 2
GROUPS = COUNTRIES * DEVICES * BOTS
HOUR_USERS, MINUTE_USERS, SECOND_USERS, ITEM_USERS = 2_000, 8, 3, 3
"""Distinct users of one group of one partition."""
ITEMS, HOUR_ITEMS, SECONDS, RAW_ROWS = 1_250, 50_000, 600, 1_000_000
SPREAD, ID_MAX = 0x9E3779B97F4A7C15, (1 << 63) - 1
"""Make an item's number of its rank: items lie in the order of their numbers, which says nothing of how many events they have."""
EVENTS_PER_MINUTE = 50_000
"""Of one group of one partition: a million events a second in all."""
ERROR_MAX = 0.03
"""Three times the standard error of distinct users."""

_COLUMNS = "_p, tenant, kind, at, country, device, bot, events, value, users, w"
_GROUP = (
    f"toUInt16(16705 + intDiv(g, {DEVICES * BOTS})) AS country, toUInt8(1 + g % {DEVICES}) AS device, "
    f"toUInt8(intDiv(g, {DEVICES}) % {BOTS}) AS bot"
)
_BY_TIME = f"""
INSERT INTO TABLE_ ({_COLUMNS})
SELECT {{p:UInt8}}, {TENANT}, 'view', toDateTime({{start:UInt32}} + b * {{step:UInt32}}, 'UTC') AS at, {_GROUP},
    {{events:UInt64}}, 0.0, uniqCombined64State(14)(user), 0
FROM (
    SELECT intDiv(number, {{users:UInt32}}) % {GROUPS} AS g, intDiv(number, {{users:UInt32}} * {GROUPS}) AS b,
        sipHash64({{p:UInt8}}, g, number % {{users:UInt32}}) AS user
    FROM numbers({{users:UInt32}} * {GROUPS} * {{buckets:UInt32}})
) GROUP BY b, g"""
_ITEMS = f"""
INSERT INTO {schema.ITEM_1M} (_p, tenant, kind, hour, item, at, bot, name, events, value, users, w)
SELECT {{p:UInt8}}, {TENANT}, 'view', toDateTime({{start:UInt32}}, 'UTC'), bitAnd((i + 1) * {SPREAD}, {ID_MAX}) AS item,
    toDateTime({{start:UInt32}} + b * 60, 'UTC') AS at, 0, '', intDiv(1000000, i + 1), 0.0, uniqCombined64State(14)(user), 0
FROM (
    SELECT intDiv(number, {ITEM_USERS}) % {ITEMS} AS i, intDiv(number, {ITEM_USERS * ITEMS}) AS b,
        sipHash64({{p:UInt8}}, number % {ITEM_USERS}) AS user
    FROM numbers({ITEM_USERS * ITEMS} * 60)
) GROUP BY b, i"""
_ITEM_HOURS = f"""
INSERT INTO {schema.ITEM_1H} (_p, tenant, kind, at, item, bot, name, events, value, users, w)
SELECT {{p:UInt8}}, {TENANT}, 'view', toDateTime({{start:UInt32}}, 'UTC'), bitAnd(rank * {SPREAD}, {ID_MAX}) AS item, 0, '',
    intDiv(60000000, rank), 0.0, uniqCombined64State(14)(user), 0
FROM (
    SELECT intDiv(number, {ITEM_USERS}) + 1 AS rank, sipHash64({{p:UInt8}}, number % {ITEM_USERS}) AS user
    FROM numbers({ITEM_USERS * HOUR_ITEMS})
) GROUP BY rank"""
_DEVICES = f"""
INSERT INTO {schema.EV_1H_DEVICES} (_p, tenant, kind, at, device, bot, events, value, users, w)
SELECT _p, tenant, kind, at, device, bot, sum(events), sum(value), uniqCombined64MergeState(14)(users), 0
FROM {schema.EV_1H} GROUP BY _p, tenant, kind, at, device, bot"""
_RAW = f"""
INSERT INTO {schema.EV} (ts, kind, tenant, item, user, country, device, flags, _p, _o, _t)
SELECT fromUnixTimestamp64Milli({{at:Int64}} + number % 1000, 'UTC'), 'view', {TENANT}, bitAnd((number % {ITEMS} + 1) * {SPREAD}, {ID_MAX}),
    sipHash64(number % 100000), 16705 + number % {COUNTRIES}, 1 + number % {DEVICES}, number % {BOTS}, number % {PARTITIONS}, {MARK}, now()
FROM numbers({RAW_ROWS})"""
_MARKERS = {
    table: f"INSERT INTO {table} (_p, tenant, kind, at, w) SELECT number, 0, '', toDateTime('2100-01-01', 'UTC'), {MARK} "
    f"FROM numbers({PARTITIONS})"
    for table in (schema.EV_1S, schema.EV_1M, schema.EV_1H, schema.EV_1H_DEVICES, schema.ITEM_1M, schema.ITEM_1H)
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in our words, and in the engine's: columns, table and the rest of a statement over the same rows."""

    measures: Sequence[str]
    by_hand: tuple[str, str, str]
    dimensions: Sequence[str] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    excluded: str = ""
    interval: str = ""
    order: str = ""
    limit: int = 0
    span_ms: int = DAY_MS

    def request(self, end_ms: int) -> pb.RunQueryRequest:
        request = pb.RunQueryRequest(
            measures=self.measures,
            dimensions=self.dimensions,
            interval=self.interval,
            order=self.order,
            limit=self.limit,
        )
        for name, values in self.filters.items():
            request.filters.add(dimension=name, values=values, exclude=name == self.excluded)
        request.range.start.FromMilliseconds(end_ms - self.span_ms)
        request.range.end.FromMilliseconds(end_ms)
        return request

    def statement(self, end_ms: int) -> str:
        columns, table, rest = self.by_hand
        start_s, end_s = (end_ms - self.span_ms) // 1_000, end_ms // 1_000
        return (
            f"SELECT {columns} FROM {table} WHERE tenant = {TENANT} AND kind = 'view' AND at >= toDateTime({start_s}, 'UTC') "
            f"AND at < toDateTime({end_s}, 'UTC') {rest}"
        )


_EVENTS, _USERS = "sum(events) AS e", "uniqCombined64Merge(14)(users) AS u"
_ITEM = 17 * SPREAD & ID_MAX
_TOP = "GROUP BY item ORDER BY e DESC LIMIT 10"
QUESTIONS: dict[str, Asked] = {
    "counts": Asked(["events", "nonbots", "bots", "value"], (f"{_EVENTS}, sum(value)", schema.EV_1H_DEVICES, "")),
    "uniques": Asked(["users"], (_USERS, schema.EV_1H_DEVICES, "")),
    "series by hour": Asked(["events"], (f"at, {_EVENTS}", schema.EV_1H_DEVICES, "GROUP BY at"), interval="hour"),
    "series by hour with users": Asked(
        ["events", "users"], (f"at, {_EVENTS}, {_USERS}", schema.EV_1H_DEVICES, "GROUP BY at"), interval="hour"
    ),
    "series by minute": Asked(
        ["events"], (f"at, {_EVENTS}", schema.EV_1M, "GROUP BY at"), interval="minute", limit=2_000
    ),
    "last minutes by second": Asked(
        ["events"], (f"at, {_EVENTS}", schema.EV_1S, "GROUP BY at"), interval="second", span_ms=5 * MINUTE_MS
    ),
    "breakdown by country": Asked(
        ["events"], (f"country, {_EVENTS}", schema.EV_1H, "GROUP BY country"), dimensions=["country"]
    ),
    "breakdown by device with users": Asked(
        ["events", "users"],
        (f"device, {_EVENTS}, {_USERS}", schema.EV_1H_DEVICES, "GROUP BY device"),
        dimensions=["device"],
    ),
    "people without three countries, by device": Asked(
        ["events"],
        (f"device, {_EVENTS}", schema.EV_1H, "AND bot = 0 AND country NOT IN (16705, 16706, 16707) GROUP BY device"),
        dimensions=["device"],
        filters={"bot": ["false"], "country": ["AA", "AB", "AC"]},
        excluded="country",
    ),
    "one country's users by hour": Asked(
        ["users"],
        (f"at, {_USERS}", schema.EV_1H, "AND country = 16708 GROUP BY at"),
        filters={"country": ["AD"]},
        interval="hour",
    ),
    "top items": Asked(["events"], (f"item, {_EVENTS}", schema.ITEM_1H, _TOP), ["item"], order="-events", limit=10),
    "top items with users": Asked(
        ["events", "users"],
        (f"item, {_EVENTS}, {_USERS}", schema.ITEM_1H, _TOP),
        ["item"],
        order="-events",
        limit=10,
    ),
    "one item by hour": Asked(
        ["events"],
        (f"at, {_EVENTS}", schema.ITEM_1H, f"AND item = {_ITEM} GROUP BY at"),
        filters={"item": [str(_ITEM)]},
        interval="hour",
    ),
}


async def run() -> Result:
    """Milliseconds at the 95th percentile."""
    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        config = clickhouse.ClickHouseSettings(dsn=f"chdb://{Path(folder) / 'clickhouse'}")
        async with clickhouse.opened(config) as store:
            end_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS
            began_s = time.monotonic()
            await _made(store, end_ms)
            return await _measured(store, end_ms, time.monotonic() - began_s)


async def _made(store: clickhouse.ClickHouse, end_ms: int) -> None:
    """The day before `end_ms`, as merges leave it after a while."""
    await schema.create(store, 1_000)
    end_s, hour_s = end_ms // 1_000, HOUR_MS // 1_000
    for p in range(PARTITIONS):
        for start_s in range(end_s - 24 * hour_s, end_s, hour_s):
            await _add(store, schema.EV_1H, p, start_s, hour_s, 1, HOUR_USERS, 60 * EVENTS_PER_MINUTE)
            await _add(store, schema.EV_1M, p, start_s, 60, 60, MINUTE_USERS, EVENTS_PER_MINUTE)
            await store.execute(_ITEMS, {"p": p, "start": start_s})
            await store.execute(_ITEM_HOURS, {"p": p, "start": start_s})
        await _add(store, schema.EV_1S, p, end_s - SECONDS, 1, SECONDS, SECOND_USERS, EVENTS_PER_MINUTE // 60)
    await store.execute(_DEVICES)
    for statement in _MARKERS.values():
        await store.execute(statement)
    await store.execute(_RAW, {"at": end_ms - 1_000})
    for table in (schema.EV, *_MARKERS):
        await store.execute(f"OPTIMIZE TABLE {table} FINAL")


async def _add(
    store: clickhouse.ClickHouse, table: str, p: int, start_s: int, step_s: int, buckets: int, users: int, events: int
) -> None:
    bound = {"p": p, "start": start_s, "step": step_s, "buckets": buckets, "users": users, "events": events}
    await store.execute(_BY_TIME.replace("TABLE_", table), bound)


async def _measured(store: clickhouse.ClickHouse, end_ms: int, made_s: float) -> Result:
    answering = Answering(
        QueryStore(store, PARTITIONS, asyncio.Lock()), BookStore(store), SystemClock(), 8, store.callers
    )
    Signer.key, address = secrets.token_bytes(32), f"127.0.0.1:{ports.draw(1)[0]}"
    ours: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    bare: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    levels: dict[str, str] = {}
    async with (
        rpc.serve([StoreRpc(answering)], address, Signer.key, access.Verifier(_nobody)),
        rpc.channel(address) as channel,
    ):
        asked, caller = Store(channel), Context(TENANT, "apiKeys/1", frozenset({"*"}))
        for number in range(-1, ROUNDS):
            for name, question in QUESTIONS.items():
                began_s = time.perf_counter()
                answer = await asked.query(caller, question.request(end_ms))
                middle_s = time.perf_counter()
                await store.query(question.statement(end_ms))
                if number >= 0:  # the first round warms up
                    ours[name].append((middle_s - began_s) * 1_000)
                    bare[name].append((time.perf_counter() - middle_s) * 1_000)
                levels[name] = answer.level
        is_right = await _is_right(asked, caller, end_ms)
    longest_ms = max(max(each) for each in ours.values())
    return Result(
        name="queries",
        value=_p95([each for times in ours.values() for each in times]),
        unit="ms at the 95th percentile",
        reference="the engine's own answer to the same questions over the same rollups",
        reference_value=_p95([each for times in bare.values() for each in times]),
        bound=P95_MS_MAX,
        bound_on_value=True,
        at_most=True,
        others_hold=is_right and longest_ms < LONGEST_MS_MAX,
        details={
            "longest_ms": round(longest_ms, 1),
            "answers_are_right": is_right,
            "made_in_s": round(made_s, 1),
            "by_question": {
                name: {
                    "p50_ms": round(float(np.median(times)), 1),
                    "p95_ms": round(_p95(times), 1),
                    "by_hand_p50_ms": round(float(np.median(bare[name])), 1),
                    "level": levels[name],
                }
                for name, times in ours.items()
            },
        },
    )


async def _is_right(asked: Store, caller: Context, end_ms: int) -> bool:
    """Whether events and users of the day are what was made: those of the rollups, and of the raw rows beyond them."""
    (row,) = (await asked.query(caller, Asked(["events", "users"], ("", "", "")).request(end_ms))).rows
    users = PARTITIONS * GROUPS * HOUR_USERS + 100_000
    events = PARTITIONS * GROUPS * 24 * 60 * EVENTS_PER_MINUTE + RAW_ROWS
    return row.measures["events"] == events and abs(row.measures["users"] / users - 1) <= ERROR_MAX


async def _nobody(secret: str) -> access.Credential:
    raise access.InvalidCredential


def _p95(times: Sequence[float]) -> float:
    return float(np.percentile(times, 95))
