"""Stores frames of many producers before and after `frames` had what lies beside its rows, and reads the newest of each back at many
offsets, with a store that lets callers' questions take nothing.

A child process, since a process may open one embedded store only. Prints what differs from a plain model, whether a caller's question was
refused, and what the engine says it reads.
"""

import asyncio
import json
import sys
from collections import defaultdict

from groundswell.analytics.store import ranges, schema
from groundswell.analytics.store.ranges import RangeStore
from groundswell.kernel import clickhouse

PARTITIONS, PRODUCERS, TENANTS = 3, 5, 4
OFFSETS = 3 * schema.STRETCH_OFFSETS + 1_000
STEP = 137
"""Only every so many-th offset is a frame, which keeps the model small."""
INSERT = (
    f"INSERT INTO {schema.FRAMES} (tenant, _p, _o, _t, producer, seq, accepted, parked, duplicate) "
    f"SELECT number % {TENANTS}, intDiv(number, {TENANTS}) % {PARTITIONS}, intDiv(number, {TENANTS * PARTITIONS}) * {STEP} AS o, now(), "
    f"1 + intDiv(o, {STEP}) % {PRODUCERS}, if(intDiv(o, {STEP}) % 7 = 0, 0, 1 + intDiv(o, {STEP})), 1, 0, 0 "
    "FROM numbers({a:UInt64}, {n:UInt64})"
)
"""A frame in seven is one that came again, which has no number."""


def model(before: int) -> dict[int, int]:
    newest: dict[int, int] = defaultdict(int)
    for number in range(-(-before // STEP)):
        if number % 7:
            newest[1 + number % PRODUCERS] = 1 + number
    return dict(newest)


def named(at_most: int) -> tuple[int, set[tuple[int, int]]] | None:
    number = at_most // STEP
    while number > 0 and number % 7 == 0:
        number -= 1
    return (number * STEP, {(1 + number % PRODUCERS, 1 + number)}) if number > 0 else None


async def refused(store: clickhouse.ClickHouse) -> bool:
    try:
        await store.query(f"SELECT producer, max(seq) FROM {schema.FRAMES} GROUP BY producer")
    except clickhouse.StoreOverloaded:
        return True
    return False


async def main(dsn: str) -> None:
    whole = OFFSETS // STEP * TENANTS * PARTITIONS
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=dsn, niceness=0, query_bytes_max=1)) as store:
        await schema.create(store, 1_000)
        await store.execute(f"ALTER TABLE {schema.FRAMES} DROP PROJECTION marks")
        await store.execute(f"ALTER TABLE {schema.FRAMES} DROP INDEX by_offset")
        await store.execute(INSERT, {"a": 0, "n": whole // 2})
        await schema.create(store, 1_000)
        await store.execute(INSERT, {"a": whole // 2, "n": whole - whole // 2})
        frames, wrong = RangeStore(store, "frames"), []
        edges = [stretch * schema.STRETCH_OFFSETS + off for stretch in range(4) for off in (-1, 0, 1, 500)]
        for before in (each for each in edges if 0 <= each <= OFFSETS):
            wrong += [before for p in range(PARTITIONS) if await frames.marks(p, before) != model(before)]
            wrong += [before for p in range(PARTITIONS) if await frames.named(p, before) != named(before)]
        wrong += [
            p for p in range(PARTITIONS) if await frames.named(p, 9 * OFFSETS) != named(OFFSETS // STEP * STEP - 1)
        ]
        await store.execute(f"OPTIMIZE TABLE {schema.FRAMES} FINAL")
        wrong += [p for p in range(PARTITIONS) if await frames.marks(p, OFFSETS - 300) != model(OFFSETS - 300)]
        bound = {"p": 1, "s": 2, "a": 2 * schema.STRETCH_OFFSETS, "o": OFFSETS}
        plan = await store.query(f"EXPLAIN indexes = 1, projections = 1 {ranges.MARKS}", bound, own=True)
        told = {"wrong": wrong, "refused": await refused(store), "plan": "\n".join(str(row[0]) for row in plan.rows)}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
