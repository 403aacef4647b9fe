"""The log removes what is a week old, stored or not: the writer goes on behind it, and says what it never got.

Goal: acknowledged events are never lost unsaid, and somebody hears of it before. Method: a real writer in a child process that is killed or
stopped at each place where the log's beginning may overtake it, and records that are removed as the retention removes them.
"""

import asyncio
import secrets
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from prometheus_client import REGISTRY

from groundswell.analytics.consumers import retention
from groundswell.analytics.module.writer import writer
from groundswell.kernel.bus import frames
from groundswell.kernel.resources import Resources
from tests.analytics.conftest import Server, WriterProcess, acknowledged
from tests.analytics.test_dead_letters import ROWS
from tests.analytics.test_late_engines import made, running
from tests.analytics.test_log_loss import Log, ended, log
from tests.analytics.test_writer_crash import rows, unequal

__all__ = ["log"]
LONG_S = 60.0


async def removed(log: Log, before: int) -> None:
    """The log begins at `before` from now on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=log.address)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(log.topic, 0): RecordsToDelete(before)})
    finally:
        await admin.close()


async def told(process: WriterProcess, stored: int, lost: int) -> None:
    """Waits until the writer says that it has stored and lost so many frames, and that its log is whole."""
    async with asyncio.timeout(LONG_S):
        while said(process) != {"ev": stored * ROWS, "lost": lost, "whole": True}:
            await asyncio.sleep(0.05)


def said(process: WriterProcess) -> dict[str, int]:
    """What the writer said last; -1 before it has."""
    found = process.said()
    return {name: found.get(name, -1) for name in ("ev", "lost", "whole")}


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize("group", ["of before", "forgotten"])
async def test_what_the_log_removed_while_no_writer_ran_is_counted_and_the_rest_is_stored(
    group: str, log: Log, writer_process: WriterProcess
) -> None:
    """Goal: that holds too where the group's offsets are forgotten, as they are after as long a time: the store knows how far it is.
    Control: what was stored before it was removed is not counted, nor what is removed before anybody read."""
    await log.give(range(1, 3))
    await removed(log, 2)
    await log.give(range(3, 7))
    await writer_process.start()
    await told(writer_process, stored=4, lost=0)
    await ended(writer_process)
    await removed(log, 5)
    environment = {"TESTED_GROUP": f"{log.topic}.anew"} if group == "forgotten" else {}
    await writer_process.start(**environment)
    await told(writer_process, stored=4, lost=0)
    await ended(writer_process)
    await log.give(range(7, 13))
    await removed(log, 9)
    await writer_process.start(**environment)
    await told(writer_process, stored=4 + 3, lost=3)
    await ended(writer_process)
    await writer_process.start(**environment)
    await log.give([13])
    await told(writer_process, stored=4 + 3 + 1, lost=0)
    await writer_process.done(8 * ROWS)
    await ended(writer_process)
    assert unequal(await writer_process.counts(), 8 * ROWS) == {}


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize(("beginning", "stored", "lost"), [(2, 5, 2), (5, 2, 5), (6, 1, 6)])
async def test_what_the_log_removed_of_a_begun_range_is_counted_and_the_rest_is_stored(
    beginning: int, stored: int, lost: int, log: Log, writer_process: WriterProcess
) -> None:
    """Method: the range holds five frames, and two come behind it."""
    await log.give(range(1, 6))
    await writer_process.start(GROUNDSWELL_FAILPOINTS="writer.after_intent=kill")
    assert await writer_process.died(LONG_S) == -signal.SIGKILL
    await log.give([6, 7])
    await removed(log, beginning)
    await writer_process.start()
    await told(writer_process, stored=stored, lost=lost)
    await writer_process.done(stored * ROWS)
    await ended(writer_process)
    assert unequal(await writer_process.counts(), stored * ROWS) == {}


@pytest.mark.promise("ANALYTICS-2")
async def test_what_the_log_removes_under_a_running_writer_is_stored_or_counted(
    log: Log, writer_process: WriterProcess
) -> None:
    """Method: a writer that stands amid an insert. What it had asked for before it stood it may have got."""
    await log.give(range(1, 7))
    child = await writer_process.start(GROUNDSWELL_FAILPOINTS="writer.after_rows=stop")
    async with asyncio.timeout(LONG_S):
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0.05)
    await log.give(range(7, 13))
    await removed(log, 9)
    child.send_signal(signal.SIGCONT)
    await log.give([13])
    async with asyncio.timeout(LONG_S):
        while (now := said(writer_process))["ev"] // ROWS + now["lost"] != 13:
            await asyncio.sleep(0.05)
    await writer_process.done(now["ev"])
    await ended(writer_process)
    assert unequal(await writer_process.counts(), now["ev"]) == {}


def test_an_offset_that_is_gone_is_counted_once_however_often_its_range_is_tried() -> None:
    """Goal: nothing is counted twice, nor left out where the log loses more between two tries."""
    lost, partition = retention.Lost(), 901
    lost.watch(partition)
    tries = (
        ([range(7, 9)], 2),
        ([range(7, 9)], 2),
        ([range(1, 9)], 8),
        ([range(2, 4), range(20, 21)], 9),
        ([range(1, 30)], 29),
    )
    for gaps, count in tries:
        lost.note(partition, gaps)
        assert (
            REGISTRY.get_sample_value("groundswell_writer_lost_offsets_total", {"partition": str(partition)}) == count
        )


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes
    headers: list[tuple[str, bytes]]


@pytest.mark.parametrize(
    ("first", "offsets", "end", "expected"),
    [
        (3, [3, 4], 5, []),
        (3, [5, 6, 9], 10, [range(3, 5), range(7, 9)]),
        (3, [3], 6, [range(4, 6)]),
        (3, [], 6, [range(3, 6)]),
    ],
)
def test_offsets_without_a_record_are_found_before_amid_and_behind_those_with_one(
    first: int, offsets: list[int], end: int, expected: list[range]
) -> None:
    records = [Record(offset, 0, b"", []) for offset in offsets]
    assert [*retention.gone(first, records, end)] == expected


def stored_until_s() -> float:
    return REGISTRY.get_sample_value("groundswell_writer_stored_until_timestamp_seconds") or 0.0


async def test_how_far_the_store_is_behind_grows_while_nothing_is_stored(
    kafka_address: str, clickhouse_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: it shows before the log's retention is over. Method: a store that is away when the writer starts, and once more later; what is
    told stays behind the moment at which an event was sent, and goes on once that is stored."""
    topic = f"behind-{secrets.token_hex(4)}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "CLICKHOUSE_DSN": clickhouse_server.dsn,
        "FRAMES_TOPIC": topic,
        "FRAMES_PARTITIONS": "1",
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "GROUNDSWELL_INSTANCE": topic,
    }
    await made(kafka_address, topic)
    clickhouse_server.stop()
    async with Resources.open(environment) as resources, writer(resources) as module, running(module):
        producer = await resources.frames()
        assert isinstance(producer, frames.FrameProducer)
        for number in range(2):
            clickhouse_server.stop()
            caplog.clear()
            await acknowledged(producer, rows(1))
            sent_s = resources.clock.now_ms() / 1000
            async with asyncio.timeout(LONG_S):
                while number and caplog.text.count("the writer reads its marks again") < 2:
                    await asyncio.sleep(0.05)
            assert 0 < stored_until_s() <= sent_s
            await clickhouse_server.start()
            async with asyncio.timeout(LONG_S):
                while stored_until_s() <= sent_s:
                    await asyncio.sleep(0.05)
