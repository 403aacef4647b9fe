"""A store that an earlier version made gets the rollups that it lacks, whole, whoever dies or works on meanwhile.

Method: tables by the statements of before, rows in their rollups and raw rows taken away; then this version over them. What the new
rollups hold is compared with the finer ones group by group, markers and sketches of users too.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from groundswell.analytics.store import schema
from groundswell.analytics.store.ranges import Range
from groundswell.analytics.store.rollups import RollupStore
from groundswell.kernel import clickhouse
from groundswell.kernel.bus import frames
from tests.analytics import older_store
from tests.analytics.conftest import Server, WriterProcess, acknowledged
from tests.analytics.older_store import LATER_ROWS, PARTITIONS, ROWS, TOPIC
from tests.analytics.test_writer_crash import rows, unequal

NEW = (schema.EV_1H_DEVICES, schema.ITEM_1H)


def exact(events: int) -> dict[str, object]:
    """What is told of a store whose rollups all hold so many events."""
    return {"events": dict.fromkeys(schema.ROLLUPS, events), "differing": dict.fromkeys(NEW, 0), "drafts": 0}


async def child(command: str, folder: Path, **environment: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.analytics.older_store", command, str(folder),
        env=os.environ | environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    return process.returncode or 0, printed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of before that nobody has open, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "clickhouse"
    assert asyncio.run(child("make", folder))[0] == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A store of before, of one's own."""
    return Path(shutil.copytree(made, tmp_path / "clickhouse", symlinks=True))


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(
    "failpoint",
    ["", "store.before_name=kill", "store.amid_fill=kill@5", "store.before_name=kill@2"],
)
async def test_an_older_store_gets_whole_rollups_also_when_the_first_upgrade_is_killed(
    folder: Path, failpoint: str
) -> None:
    """Goal: nothing is lacking or there twice, before and after the next rows are rolled up. The points lie in either new table."""
    if failpoint:
        assert (await child("upgrade", folder, GROUNDSWELL_FAILPOINTS=failpoint))[0] == -signal.SIGKILL
    _, printed = await child("tell", folder)
    assert json.loads(printed) == [exact(ROWS), exact(ROWS + LATER_ROWS)]


@pytest.mark.promise("ANALYTICS-2")
async def test_a_fill_that_is_cut_short_again_and_again_goes_on_and_leaves_one_draft(folder: Path) -> None:
    """Goal: a fill ends however little time each start has. Method: each is killed after one partition; the last one, whose
    failpoint is beyond the four partitions that are left, is not. Another name would begin anew: that is what kept no end. What is left is
    parted as a version before this one would have left it."""
    for _ in range(2):
        killed, _ = await child("upgrade", folder, GROUNDSWELL_FAILPOINTS="store.amid_fill=kill")
        assert killed == -signal.SIGKILL
        assert len([*folder.glob("store/**/*_filling_*.sql")]) == 1
    assert (await child("age", folder))[0] == 0
    left, printed = await child("tell", folder, GROUNDSWELL_FAILPOINTS=f"store.amid_fill=kill@{2 * PARTITIONS - 1}")
    assert left == 0, "a partition was filled twice"
    assert json.loads(printed) == [exact(ROWS), exact(ROWS + LATER_ROWS)]


@pytest.mark.promise("ANALYTICS-2")
async def test_several_processes_may_upgrade_a_store_at_once(clickhouse_server: Server) -> None:
    """Goal: one of them names each table, and the others find it. Afterwards one rolls up what came since."""
    config = clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)
    async with clickhouse.opened(config) as store, clickhouse.opened(config) as other:
        await older_store.made(store)
        await asyncio.gather(*(schema.create(each, 20_000) for each in (store, other, store, other)))
        assert await older_store.told(store) == exact(ROWS)
        await older_store.stored(store, LATER_ROWS, seed=2, first=100)
        await RollupStore(other, TOPIC).write([Range(p, 100, 199) for p in range(PARTITIONS)])
        assert await older_store.told(store) == exact(ROWS + LATER_ROWS)


@pytest.mark.promise("ANALYTICS-2")
async def test_a_writer_of_an_earlier_version_leaves_new_rollups_behind_and_without_a_hole(
    clickhouse_server: Server,
) -> None:
    """Goal: what it adds is beyond the new rollups' markers, where it is found. Control: their events are fewer until then."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await older_store.made(store)
        await schema.create(store, 20_000)
        await older_store.stored(store, LATER_ROWS, seed=2, first=100)
        of = [Range(p, 100, 199) for p in range(PARTITIONS)]
        await older_store.rolled_up_by_an_older_writer(store, of)
        behind = (await older_store.told(store))["events"]
        assert behind == dict.fromkeys(schema.ROLLUPS, ROWS + LATER_ROWS) | dict.fromkeys(NEW, ROWS)
        rolled = RollupStore(store, TOPIC)
        assert await rolled.lacking_from() == dict.fromkeys(range(PARTITIONS), 100)
        await rolled.write_again(of)
        assert await older_store.told(store) == exact(ROWS + LATER_ROWS)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize("parted", ["now", "as before"])
async def test_a_rollup_that_is_behind_by_more_than_the_raw_rows_there_are_is_filled_from_the_finer_one(
    clickhouse_server: Server, parted: str
) -> None:
    """Goal: what an earlier version added is in the new rollups also after its raw rows are gone. Method: events of 40 days ago, and
    rollups as this version and one before it part them."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await older_store.made(store)
        await schema.create(store, 20_000)
        for table in NEW if parted == "as before" else ():
            await older_store.parted_as_before(store, table)
        await older_store.stored(store, LATER_ROWS, seed=2, first=100, days_back=40)
        of = [Range(p, 100, 199) for p in range(PARTITIONS)]
        await older_store.rolled_up_by_an_older_writer(store, of)
        await store.execute(f"ALTER TABLE {schema.EV} DELETE WHERE 1 SETTINGS mutations_sync = 2")
        await RollupStore(store, TOPIC).write_again(of)
        told = await older_store.told(store)
        assert told["differing"] == dict.fromkeys(NEW, 0)
        events = await store.query(
            f"SELECT (SELECT sum(events) FROM {schema.EV_1H_DEVICES}), sum(events) FROM {schema.ITEM_1H}"
        )
        assert events.rows == [(ROWS + LATER_ROWS, ROWS + LATER_ROWS)]
        assert await RollupStore(store, TOPIC).lacking_from() == dict.fromkeys(range(PARTITIONS), 200)


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(("first", "second"), [("INSERT INTO", "ALTER TABLE"), ("ALTER TABLE", "INSERT INTO")])
async def test_who_fills_a_partition_again_beside_a_successor_neither_adds_to_its_copy_nor_puts_half_of_it_in_place(
    clickhouse_server: Server, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """Method: one is held up before a step, and goes on while the other is held up before the other step."""
    async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
        await older_store.made(store)
        await schema.create(store, 20_000)
        execute, first_waits, second_waits, first_is_over = store.execute, *(asyncio.Event() for _ in range(3))

        async def execute_slowly(sql: str, *given: Any) -> None:
            task = asyncio.current_task()
            name = task.get_name() if task else ""
            if name == "first" and sql.startswith(first):
                first_waits.set()
                await second_waits.wait()
            if name == "second" and sql.startswith(second):
                second_waits.set()
                await first_is_over.wait()
            await execute(sql, *given)

        monkeypatch.setattr(store, "execute", execute_slowly)
        async with asyncio.timeout(60):
            one = asyncio.create_task(schema.fill_again(store, schema.ITEM_1H, 0, {}), name="first")
            await first_waits.wait()
            other = asyncio.create_task(schema.fill_again(store, schema.ITEM_1H, 0, {}), name="second")
            with pytest.raises(clickhouse.QueryFailed, match="UNKNOWN_TABLE"):
                await one
            first_is_over.set()
            await other
        assert await older_store.told(store) == exact(ROWS)


@pytest.mark.promise("ANALYTICS-2")
async def test_a_rollup_that_is_behind_what_was_committed_gets_what_it_lacks(
    clickhouse_server: Server,
    kafka_address: str,
    frames_topic: str,
    frame_producer: frames.FrameProducer,
    tmp_path: Path,
) -> None:
    """Goal: a writer that takes partitions over brings every rollup up to their offsets, also one that dies on the way. Method: one rollup
    has lost all that it had, which is added some offsets at a time."""
    process = WriterProcess(kafka_address, frames_topic, clickhouse_server.dsn, tmp_path / "status")
    given = rows(3_000)
    try:
        await process.start()
        await acknowledged(frame_producer, given[:1_500])
        await process.done(1_500)
        await process.stop()
        process.status.unlink()
        async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=clickhouse_server.dsn)) as store:
            await store.execute(f"TRUNCATE TABLE {schema.ITEM_1H}")
        at_once = {"WRITER_ROLLUP_OFFSETS_MAX": "6"}
        await process.start(GROUNDSWELL_FAILPOINTS="writer.rollup_after_item_1h=kill@2", **at_once)
        assert await process.died() == -signal.SIGKILL
        await process.start(**at_once)
        await process.done(1_500)
        await acknowledged(frame_producer, given[1_500:])
        await process.done(3_000)
    finally:
        await process.stop()
    counts = await process.counts()
    assert unequal(counts, 3_000) == {}, counts
