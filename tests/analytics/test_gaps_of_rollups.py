"""What a rollup lacks is added piece by piece, each by one member alone and none beside a statement that is still at work.

Goal: ANALYTICS-2 where two statements could add the same rows: each reads how far a rollup is when it begins, and neither sees what the
other is about to add.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from groundswell.analytics.consumers.rollups import Rollups
from groundswell.analytics.model.questions import HOUR_MS, Filter, Question
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.queries import QueryStore
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore, Total
from groundswell.kernel import clickhouse
from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import Fenced, Mark, Membership
from groundswell.kernel.clock import SystemClock
from tests.analytics.conftest import TENANT, Server, WriterProcess, acknowledged
from tests.analytics.raw_rows import draw
from tests.analytics.test_writer_crash import rows, unequal

ROWS, PARTITIONS, PIECE = 4_000, 3, 40
ENDS = {0: 100, 1: 70, 2: 30}
"""Where the gaps of the partitions end: after three pieces, two, one."""


class Member(Membership):
    """A member of a group without a broker, which is thrown out once so many intents were committed."""

    def __init__(self, intents_max: int) -> None:
        self.partitions, self.fresh = frozenset(ENDS), set(ENDS)
        self.marks = {partition: Mark(end) for partition, end in ENDS.items()}
        self.intents, self._intents_max = 0, intents_max
        self.thrown_out = asyncio.Event()

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        yield

    async def records(self, wait_s: float) -> dict[int, list[object]]:
        await asyncio.sleep(min(wait_s, 0.01))
        return {}

    async def mark(self, partition: int) -> Mark | None:
        return self.marks[partition]

    async def commit(self, marks: Mapping[int, Mark], *, intent: bool = False) -> None:
        self.intents += intent
        if self.intents > self._intents_max:
            self.thrown_out.set()
            raise Fenced("thrown out")
        self.marks |= marks

    def ready(self, partition: int, offset: int) -> None:
        assert offset == ENDS[partition]
        self.fresh.discard(partition)

    def restart(self) -> None:
        self.partitions, self.fresh = frozenset(), set()


async def nobody(totals: Sequence[Total]) -> None:
    assert totals


@pytest.mark.promise("ANALYTICS-2")
async def test_a_member_that_is_thrown_out_amid_a_gap_adds_no_further_piece_of_it(clickhouse_server: Server) -> None:
    """Goal: whoever gets the partition adds the rest alone. Control: a member that stays adds all pieces of uneven gaps, each once."""
    start_ms = SystemClock().now_ms() - HOUR_MS
    drawn = draw(
        ROWS, seed=1, tenant=TENANT, start_ms=start_ms, span_ms=60_000, items=9, users=90, partitions=PARTITIONS
    )
    of = [Range(partition, 0, end - 1) for partition, end in ENDS.items()]
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        ranges, rollups = RangeStore(store, "t"), RollupStore(store, "t")
        for partition in ENDS:
            await ranges.write(Range(partition, 0, 99), drawn.of(partition).content())
        await rollups.write(of)
        await store.execute(f"TRUNCATE TABLE {schema.ITEM_1H}")
        config = WriterSettings(rollup_ms=1, rollup_offsets_max=PIECE)

        async def run(member: Member) -> None:
            running = asyncio.create_task(Rollups(member, ranges, rollups, config, nobody).run())
            async with asyncio.timeout(30):
                while member.fresh and not member.thrown_out.is_set():
                    await asyncio.sleep(0.01)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

        await run(member := Member(intents_max=1))
        assert member.thrown_out.is_set()
        assert await rollups.lacking_from() == {0: PIECE, 1: PIECE, 2: ENDS[2]}
        await run(Member(intents_max=9))
        assert await rollups.lacking_from() == ENDS
        events = await store.query(
            f"SELECT (SELECT sum(events) FROM {schema.ITEM_1H}), sum(events) FROM {schema.ITEM_1M}"
        )
        assert events.rows[0][0] == events.rows[0][1]


@pytest.mark.promise("ANALYTICS-2")
async def test_a_statement_that_outlives_its_writer_doubles_nothing(
    clickhouse_server: Server,
    kafka_address: str,
    frames_topic: str,
    frame_producer: frames.FrameProducer,
    tmp_path: Path,
) -> None:
    """Goal: a writer that comes back at once, under its name, waits for what its killed predecessor had the store do. Method: what the
    groups go through is made slow for the first statement, whose parts are in place at its end."""
    process = WriterProcess(kafka_address, frames_topic, clickhouse_server.dsn, tmp_path / "status")
    await acknowledged(frame_producer, rows(1_000))
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        rollups = RollupStore(store, frames_topic)
        await store.execute("CREATE TABLE slow (n UInt8) ENGINE = Null")
        for n in range(2):
            await store.execute(
                f"CREATE MATERIALIZED VIEW slow_{n} TO slow AS SELECT sleep(3) AS n FROM {schema.BY_TIME}"
            )
        try:
            child = await process.start()
            async with asyncio.timeout(30):
                while not await rollups.under_way(range(4)):
                    await asyncio.sleep(0.02)
            child.send_signal(signal.SIGKILL)
            await child.wait()
            for n in range(2):
                await store.execute(f"DROP VIEW slow_{n}")
            assert await rollups.under_way(range(4)), "the statement goes on"
            await process.start()
            await process.done(1_000)
            assert not await rollups.under_way(range(4))
        finally:
            await process.stop()
    counts = await process.counts()
    assert unequal(counts, 1_000) == {}, counts


@pytest.mark.promise("ANALYTICS-9")
@pytest.mark.parametrize(("by", "coarser"), [((), "ev_1h_devices"), (("item",), "item_1h")])
async def test_a_rollup_with_a_gap_is_not_asked_while_the_finer_one_has_it_all(
    clickhouse_server: Server, by: tuple[str, ...], coarser: str
) -> None:
    """Goal: a gap of hours is not read raw by each question. Its filter comes once in the statement, or it is too long for an address."""
    end_ms = SystemClock().now_ms() // HOUR_MS * HOUR_MS
    drawn = draw(ROWS, seed=1, tenant=TENANT, start_ms=end_ms - 1_000_000, span_ms=60_000, items=9, users=90)
    drawn.columns["_o"] = drawn.columns["_o"].astype(np.uint64) * np.uint64(100)
    filters = (Filter("item", tuple(range(1, 251))),) if by else ()
    asked = Question(("events",), by, filters, "", end_ms - 2 * HOUR_MS - 1, end_ms + 1)
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await schema.create(store, 1_000)
        rollups = RollupStore(store, "t")
        await RangeStore(store, "t").write(Range(0, 0, 9_999), drawn.content())
        await rollups.write([Range(0, 0, 9_999)])
        queries = QueryStore(store, 1, rollups.adding)

        async def counted() -> float:
            return sum(row[-1][0] for row in (await queries.answer(TENANT, asked)).rows)

        assert await counted() == ROWS
        await store.execute(f"TRUNCATE TABLE {schema.DATABASE}.{coarser}")
        await store.execute(f"ALTER TABLE {schema.EV} DELETE WHERE 1 SETTINGS mutations_sync = 2")
        assert await counted() == ROWS, "raw rows were asked, which are gone"
