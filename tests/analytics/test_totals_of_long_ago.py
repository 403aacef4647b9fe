"""Totals are published a piece at a time, however much there is to publish.

Goal: a group whose offsets are forgotten has a month of totals to publish, and does not gather them in memory. Method: rollups that hold
all, a member without a mark, one item an offset, and a process that ends amid it; what was published stays so, and the rest follows.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from groundswell.analytics.consumers.rollups import Rollups
from groundswell.analytics.model import intents
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore, Total
from groundswell.kernel import clickhouse
from groundswell.kernel.bus.intents import Mark
from tests.analytics.conftest import TENANT, Server
from tests.analytics.raw_rows import KINDS, Drawn, draw
from tests.analytics.test_gaps_of_rollups import Member, nobody

ROWS, PARTITIONS, OFFSETS, PIECE = 4_000, 3, 100, 40
CONFIG = WriterSettings(rollup_ms=1, rollup_offsets_max=PIECE)
FRAME = f"INSERT INTO {schema.FRAMES} (tenant, _p, _o, _t) SELECT {TENANT}, {{p:UInt8}}, {{o:UInt64}}, now()"


class Failed(Exception):
    """The process ends."""


class Forgotten(Member):
    """A member of a group whose offsets are forgotten."""

    def __init__(self) -> None:
        super().__init__(intents_max=0)
        self.marks = {}
        self.waits: list[float] = []
        """How long each turn waited for more to come."""
        self.said: list[dict[int, int]] = []
        """How far the totals of each partition were published, commit by commit."""

    async def records(self, wait_s: float) -> dict[int, list[object]]:
        self.waits.append(wait_s)
        return await super().records(wait_s)

    async def mark(self, partition: int) -> Mark | None:
        return self.marks.get(partition)

    async def commit(self, marks: Mapping[int, Mark], *, intent: bool = False) -> None:
        await super().commit(marks, intent=intent)
        self.said.append(self.published_to)

    def ready(self, partition: int, offset: int) -> None:
        assert offset == OFFSETS
        self.fresh.discard(partition)

    def again(self) -> None:
        """Another process is this member now."""
        self.partitions = frozenset(range(PARTITIONS))
        self.fresh = set(self.partitions)

    @property
    def published_to(self) -> dict[int, int]:
        return {partition: intents.parse(mark.note).totals or 0 for partition, mark in self.marks.items()}


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize("oldest", [0, 30])
async def test_totals_of_long_ago_are_published_a_piece_at_a_time_and_a_crash_loses_none(
    oldest: int, clickhouse_server: Server
) -> None:
    """Goal: the turns begin where the store does, since what is older was removed, and wait for nothing while there is more."""
    drawn = all_rows()
    rows = Counter(zip(*(drawn.columns[name].tolist() for name in ("kind", "item")), strict=True))
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        ranges, rollups = await rolled_up(store, drawn, dict.fromkeys(range(PARTITIONS), oldest))
        member, published = Forgotten(), list[Sequence[Total]]()

        async def publish(totals: Sequence[Total]) -> None:
            if len(published) == 1 and member.published_to != dict.fromkeys(range(PARTITIONS), oldest):
                published.append(())
                raise Failed
            published.append(totals)

        with pytest.raises(Failed):
            async with asyncio.timeout(30):
                await Rollups(member, ranges, rollups, CONFIG, publish).run()
        assert member.published_to == dict.fromkeys(range(PARTITIONS), oldest + PIECE)
        assert member.waits == [CONFIG.rollup_ms / 1000, 0.0]
        member.again()
        await ended(Rollups(member, ranges, rollups, CONFIG, publish), member)
    assert max(map(len, published)) <= PIECE * len(KINDS)
    assert told(published) == {
        (TENANT, KINDS[kind], item): count for (kind, item), count in rows.items() if item >= oldest
    }
    assert sum(map(len, published)) == len(told(published)), "none is published twice"


@pytest.mark.promise("ANALYTICS-2")
async def test_a_partition_of_which_no_frame_is_left_has_no_totals_to_publish(clickhouse_server: Server) -> None:
    """Goal: nobody walks through millions of offsets of which nothing is left. Control: the other partitions begin where the store does."""
    silent = 1
    held = {partition: 0 for partition in range(PARTITIONS) if partition != silent}
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        ranges, rollups = await rolled_up(store, all_rows(), held)
        await ended(Rollups(member := Forgotten(), ranges, rollups, CONFIG, nobody), member)
    assert member.said[0] == held | {silent: OFFSETS}


async def ended(rollups: Rollups, member: Forgotten) -> None:
    """Runs until all totals are published."""
    running = asyncio.create_task(rollups.run())
    async with asyncio.timeout(30):
        while member.published_to != dict.fromkeys(range(PARTITIONS), OFFSETS):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def all_rows() -> Drawn:
    """Rows of which each has its offset for an item."""
    drawn = draw(
        ROWS,
        seed=1,
        tenant=TENANT,
        start_ms=1_796_000_000_000,
        span_ms=60_000,
        items=9,
        users=90,
        partitions=PARTITIONS,
    )
    drawn.columns["item"] = drawn.columns["_o"].astype(np.uint64)
    return drawn


async def rolled_up(
    store: clickhouse.ClickHouse, drawn: Drawn, oldest: Mapping[int, int]
) -> tuple[RangeStore, RollupStore]:
    """A store that has rolled these rows up, and whose frames begin there; by partition."""
    await schema.create(store, 1_000)
    ranges, rollups = RangeStore(store, "t"), RollupStore(store, "t")
    for partition in range(PARTITIONS):
        await ranges.write(Range(partition, 0, OFFSETS - 1), drawn.of(partition).content())
    for partition, offset in oldest.items():
        await store.execute(FRAME, {"p": partition, "o": offset})
    await rollups.write([Range(partition, 0, OFFSETS - 1) for partition in range(PARTITIONS)])
    return ranges, rollups


def told(published: Sequence[Sequence[Total]]) -> Mapping[tuple[int, str, int], int]:
    return {(total.tenant, total.kind, total.item): total.events for totals in published for total in totals}
