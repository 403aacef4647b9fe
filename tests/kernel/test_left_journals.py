"""What a process of another placement left is sent by whoever is told of it, under the name that it had.

Goal: changing the placement of modules strands no row and counts none twice. Method: `Resources` on real journals and a real
broker; a producer that dies stands for the placement before.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames import records
from groundswell.kernel.bus.frames.producer import JOURNAL_BYTES
from groundswell.kernel.resources import Resources

from .framing import Log, died, producer, segments, some_rows
from .test_resources import environment, until


@asynccontextmanager
async def process(folder: Path, kafka: str, topic: str, *left: str) -> AsyncIterator[frames.FrameProducer]:
    told = environment(kafka, folder) | {"FRAMES_TOPIC": topic, "GROUNDSWELL_LEFT": ",".join(left)}
    async with Resources.open(told) as resources:
        yield await resources.frames()
        assert not [name for task, name in resources.running.items() if task.done()]


async def left(folder: Path, rows: list[frames.Row]) -> None:
    """A process takes rows while the log is away, and dies."""
    log = Log()
    log.up = False
    made = producer(folder / "journal", log)
    for row in rows:
        made.append(row)
    died(made)


async def read(kafka: str, topic: str, rows: int) -> Log:
    """The frames of a topic, once they hold so many rows."""
    log = Log()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            while len(log.rows()) < rows:
                record = await consumer.getone()
                log.frames.append((record.partition, frames.decode(record.value, record.headers)))
    finally:
        await consumer.stop()
    return log


@pytest.mark.promise("GATEWAY-8", "LINKS-5")
async def test_the_journals_of_processes_that_are_run_no_more_are_sent_beside_a_processs_own(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    rows = some_rows(400)
    await left(tmp_path / "all", rows[:100])
    await left(tmp_path / "web", rows[100:200])
    await left(tmp_path / "gateway", rows[200:300])
    async with process(tmp_path / "gateway", kafka_address, topic, "all", "web") as made:
        for row in rows[300:]:
            made.append(row)
        log = await read(kafka_address, topic, 400)
    assert sorted(log.rows()) == rows
    names = {int((tmp_path / name / "journal" / "producer_id").read_text()) for name in ("all", "web", "gateway")}
    assert {frame.header.producer_id for _, frame in log.frames} == names


async def test_a_journal_that_nobody_is_told_of_is_not_sent(tmp_path: Path, kafka_address: str, topic: str) -> None:
    """Control of the test above: rows of the process itself come, and with them nothing else."""
    await left(tmp_path / "all", some_rows(100))
    async with process(tmp_path / "gateway", kafka_address, topic) as made:
        made.append(some_rows(1, start=500)[0])
        log = await read(kafka_address, topic, 1)
    assert log.rows() == some_rows(1, start=500)


@pytest.mark.promise("GATEWAY-8")
async def test_a_placement_that_returns_finds_its_journal_free_and_sends_nothing_again(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    """Goal: there and back. Of what was sent by another no segment stays, by which it would be taken for left at each start; but the
    name does, and the numbers of frames go on."""
    rows = some_rows(200)
    await left(tmp_path / "all", rows[:100])
    async with process(tmp_path / "gateway", kafka_address, topic, "all"):
        await read(kafka_address, topic, 100)
        await until(lambda: not segments(tmp_path / "all" / "journal"))
    async with process(tmp_path / "all", kafka_address, topic, "gateway") as made:
        assert made.waiting_rows == 0
        for row in rows[100:]:
            made.append(row)
        log = await read(kafka_address, topic, 200)
    assert sorted(log.rows(once=False)) == rows
    assert len({frame.header.producer_id for _, frame in log.frames}) == 1


async def test_a_journal_that_cannot_be_read_keeps_neither_the_process_nor_the_next_journal_from_its_work(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    rows = some_rows(200)
    await left(tmp_path / "all", rows[:100])
    await left(tmp_path / "web", rows[100:])
    for segment in (tmp_path / "all" / "journal").glob("*.log"):
        segment.write_bytes(records.framed(b"? is no kind of record"))
    async with process(tmp_path / "gateway", kafka_address, topic, "all", "web"):
        log = await read(kafka_address, topic, 100)
    assert sorted(log.rows()) == rows[100:]


@pytest.mark.promise("GATEWAY-8")
async def test_a_journal_that_a_process_still_holds_keeps_no_other_waiting_and_is_sent_once_it_is_free(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    """Such as a process that a killed supervisor has forgotten."""
    rows = some_rows(200)
    await left(tmp_path / "all", rows[:100])
    await left(tmp_path / "web", rows[100:])
    forgotten = frames.Journal(tmp_path / "all" / "journal", 4)
    async with process(tmp_path / "gateway", kafka_address, topic, "all", "web"):
        assert sorted((await read(kafka_address, topic, 100)).rows()) == rows[100:]
        forgotten.close()
        assert sorted((await read(kafka_address, topic, 200)).rows()) == rows


@pytest.mark.promise("GATEWAY-8")
async def test_a_journal_that_cannot_be_opened_just_now_is_tried_again(
    tmp_path: Path, kafka_address: str, topic: str
) -> None:
    """A folder with the name of a segment stands for whatever passes, such as descriptors that are all taken."""
    rows = some_rows(200)
    await left(tmp_path / "all", rows[:100])
    await left(tmp_path / "web", rows[100:])
    (segment,) = segments(tmp_path / "all" / "journal")
    unreadable = segment.with_name(segment.name.replace("1.log", "2.log"))
    unreadable.mkdir()
    async with process(tmp_path / "gateway", kafka_address, topic, "all", "web"):
        assert sorted((await read(kafka_address, topic, 100)).rows()) == rows[100:]
        unreadable.rmdir()
        assert sorted((await read(kafka_address, topic, 200)).rows()) == rows


async def test_what_the_log_has_not_taken_stays_when_a_folder_is_vacated_and_rows_may_follow(tmp_path: Path) -> None:
    """The control of what follows: once the log has it, nothing stays."""
    rows, log = some_rows(200), Log()
    log.up = False
    made = producer(tmp_path, log)
    journal = made._journal
    assert isinstance(journal, frames.Journal)
    for row in rows[:100]:
        made.append(row)
    journal.vacate()
    for row in rows[100:]:
        made.append(row)
    died(made)
    log.up = True
    successor = producer(tmp_path, log)
    await until(lambda: not successor.waiting_rows)
    assert isinstance(successor._journal, frames.Journal)
    successor._journal.vacate()
    assert (segments(tmp_path), successor._journal.size_bytes) == ([], 0)
    await successor.close()
    assert sorted(log.rows(once=False)) == rows


async def test_a_process_that_ends_while_the_log_is_away_leaves_what_others_left(tmp_path: Path) -> None:
    """Goal: nothing is sent, so nothing may be gone; and the metric tells of it meanwhile."""
    await left(tmp_path / "all", some_rows(100))
    bytes_before = JOURNAL_BYTES.collect()
    async with process(tmp_path / "gateway", "127.0.0.1:1", "nowhere", "all"):
        await until(lambda: len(list((tmp_path / "all" / "journal").glob("*.log"))) == 2)
        assert JOURNAL_BYTES.collect() != bytes_before
    log = Log()
    successor = producer(tmp_path / "all" / "journal", log)
    await until(lambda: not successor.waiting_rows)
    await successor.close()
    assert sorted(log.rows()) == some_rows(100)
