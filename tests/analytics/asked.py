"""Asks a store random questions while its rollups are being added, and compares each answer with a plain model of the same rows.

A child process, since a process may open one embedded store only. Prints `{"asked": n, "wrong": [...]}`; the seed is an argument.
"""

import asyncio
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from groundswell.analytics.errors import StoreBusy
from groundswell.analytics.model import questions
from groundswell.analytics.model.questions import DIMENSIONS, FILTERS, INTERVALS_MS, MEASURES, Filter, Question
from groundswell.analytics.store import schema
from groundswell.analytics.store.queries import Found, QueryStore
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.clock import SystemClock
from tests.analytics import raw_rows

PARTITIONS, ROWS, TENANT, OTHER = 4, 4_000, 7, 8
HOUR_MS = 3_600_000
QUESTIONS = 120
TRIES = 5
STEP = 5
"""Offsets that one rollup adds; small, so that rollups go on while all questions are asked."""
VALUES: dict[str, Sequence[int | str]] = {
    "kind": list(raw_rows.KINDS),
    "item": [1, 2, 3, 17],
    "country": [0, 1, 4],
    "device": [0, 3],
    "bot": [0, 1],
    "network": [0, 2],
}

Row = dict[str, int | str]
Key = tuple[int | str, ...]


def rows_of(drawn: raw_rows.Drawn) -> list[Row]:
    names = list(drawn.columns)
    rows = [
        dict(zip(names, each, strict=True)) for each in zip(*(c.tolist() for c in drawn.columns.values()), strict=True)
    ]
    return [row | {"kind": raw_rows.KINDS[int(row["kind"])], "bot": int(row["flags"]) & 1} for row in rows]


def model(rows: Iterable[Row], question: Question) -> dict[Key, dict[str, float]]:
    """The answer by the meaning of the words."""
    interval_ms = INTERVALS_MS[question.interval]
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        ts = int(row["ts"])
        passes = all((row[each.dimension] in each.values) != each.exclude for each in question.filters)
        if question.start_ms <= ts < question.end_ms and passes:
            time_ms = ts // interval_ms * interval_ms if interval_ms else 0
            groups[time_ms, *(row[name] for name in question.dimensions)].append(row)
    return {key: {name: _measure(name, group) for name in question.measures} for key, group in groups.items()}


def _measure(name: str, group: list[Row]) -> float:
    bots = sum(int(row["bot"]) for row in group)
    match name:
        case "users":
            return len({row["user"] for row in group})
        case "value":
            return sum(float(row["value"]) for row in group)
        case "bots":
            return bots
        case "nonbots":
            return len(group) - bots
    return len(group)


def question(chance: random.Random, start_ms: int) -> Question:
    """Any question over the rows' time: aligned to an hour, a minute, or not at all."""
    step_ms = chance.choice([HOUR_MS, 60_000, 1_000, 1])
    first, last = sorted(chance.sample(range(-HOUR_MS, 4 * HOUR_MS, 1), 2))
    dimensions = tuple(chance.sample(DIMENSIONS, chance.choice([0, 0, 1, 1, 2])))
    filters = tuple(
        Filter(name, tuple(chance.sample(VALUES[name], chance.randint(1, len(VALUES[name])))), chance.random() < 0.3)
        for name in chance.sample(FILTERS, chance.choice([0, 0, 1, 2]))
    )
    measures = tuple(chance.sample(MEASURES, chance.randint(1, len(MEASURES))))
    start = (start_ms + first) // step_ms * step_ms
    end = max((start_ms + last) // step_ms * step_ms, start + step_ms)
    any_order = Question(
        measures, dimensions, filters, chance.choice(list(INTERVALS_MS)), start, end, limit=questions.LIMIT_MAX
    )
    exact = [name for name in measures if name != "users"]
    if "item" not in dimensions or not exact:
        return any_order
    order, interval = chance.choice(["", "-"]) + chance.choice(exact), chance.choice(["", "", "hour"])
    if chance.random() < 0.3 and (interval or measures[0] in exact):
        order = ""  # then it is the time, or the first measure
    return replace(any_order, order=order, limit=chance.choice([1, 7, 100]), interval=interval)


async def _answer(queries: QueryStore, asked: Question) -> Found:
    """Asked as a caller is told to: again when the store was busy with rollups that moved all the time."""
    checked = questions.checked(asked, SystemClock().now_ms())
    for _ in range(TRIES - 1):
        with suppress(StoreBusy):
            return await queries.answer(TENANT, checked)
    return await queries.answer(TENANT, checked)


async def compared(queries: QueryStore, rows: list[Row], asked: Question) -> str:
    """Empty, or how the answer differs from the model's."""
    found = await _answer(queries, asked)
    got = {
        (time_ms, *keys): dict(zip(asked.measures, measured, strict=True)) for time_ms, keys, _, measured in found.rows
    }
    wanted = _first(asked, model(rows, asked))
    if got.keys() == wanted.keys() and all(_same(asked, got[key], wanted[key]) for key in got):
        return ""
    wrong = [
        f"{key}: {got.get(key)}, should be {wanted.get(key)}"
        for key in {*got, *wanted}
        if got.get(key) != wanted.get(key)
    ]
    return f"{asked} at level {found.level}: " + "; ".join(wrong[:3])


def _first(asked: Question, wanted: dict[Key, dict[str, float]]) -> dict[Key, dict[str, float]]:
    """What the limit leaves of the model's answer."""
    if asked.limit == questions.LIMIT_MAX:
        return wanted
    if not asked.order and asked.interval:
        return {key: wanted[key] for key in sorted(wanted)[: asked.limit]}
    order = asked.order or f"-{asked.measures[0]}"
    by, sign = order.removeprefix("-"), -1 if order.startswith("-") else 1
    first = sorted(wanted, key=lambda key: (sign * wanted[key][by], key))[: asked.limit]
    return {key: wanted[key] for key in first}


def _same(asked: Question, got: dict[str, float], wanted: dict[str, float]) -> bool:
    """Everything is exact but distinct users over more than a second: three times the standard error that is promised for those."""
    error_max = 0.0 if asked.wants_exact_users else 0.03
    return all(abs(got[name] - wanted[name]) <= (error_max * wanted[name] if name == "users" else 0) for name in wanted)


async def main(folder: str, seed: str) -> None:
    start_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS - 4 * HOUR_MS
    mine, others = (
        raw_rows.draw(
            ROWS, seed=n, tenant=n, start_ms=start_ms, span_ms=3 * HOUR_MS, items=40, users=900, partitions=PARTITIONS
        )
        for n in (TENANT, OTHER)
    )
    mine.columns["value"] = mine.columns["value"].astype(float) * 0.75 - 3.0  # below zero too, and never rounded
    rows, chance, wrong = rows_of(mine), random.Random(int(seed)), []
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=f"chdb://{folder}", niceness=0)) as store:
        await schema.create(store, 20_000)
        ranges, rollups = RangeStore(store, "frames"), RollupStore(store, "frames")
        for partition in range(PARTITIONS):
            await ranges.write(raw_rows.whole(partition), mine.of(partition).content())
            await RangeStore(store, "others").write(raw_rows.whole(partition), others.of(partition).content())
        queries = QueryStore(store, PARTITIONS, rollups.adding)
        rolling = asyncio.create_task(_roll_up(rollups))
        for number in range(QUESTIONS):
            if number == QUESTIONS * 5 // 6:
                await rolling  # the rest is asked with everything rolled up
            wrong.append(await compared(queries, rows, question(chance, start_ms)))
    print(json.dumps({"asked": len(wrong), "wrong": [each for each in wrong if each]}))


async def _roll_up(rollups: RollupStore) -> None:
    for first in range(0, 100, STEP):
        async with rollups.adding:
            due = [Range(p, first, first + STEP - 1) for p in range(PARTITIONS)]
            await rollups.write(due)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
