"""A client batch counts once, whoever sends it how often and wherever its tries meet the writer.

Goal: ANALYTICS-6, from the collector to every table. Method: real collectors with journals of their own on one log, the writer in a child
process, and each table's rows against what was sent once.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from groundswell.analytics.errors import OutcomeUnknown
from groundswell.analytics.model.intake import Event
from groundswell.analytics.service.collecting import Collector
from groundswell.kernel import postgres
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestIdReused, RequestKey
from tests.analytics.conftest import TENANT, WriterProcess
from tests.analytics.test_writer_crash import unequal

ALICE = Context(tenant=TENANT)
BATCH = [Event("view", str(n % 7), f"u{n}", "", None, 1.0, "") for n in range(600)]
"""Of so many users that every partition gets rows of it."""
OTHER = [Event("tap", "1", f"v{n}", "", None, 1.0, "") for n in range(600)]
NOWHERE = "127.0.0.1:1"


@asynccontextmanager
async def collecting(
    bootstrap: str, topic: str, journal: Path, database: postgres.Database, acknowledge_s: float = 30.0
) -> AsyncIterator[Collector]:
    """A collector as one process has it."""
    config = frames.FrameSettings(topic=topic, frame_rows_max=50)
    async with frames.opened(bootstrap, journal, config) as producer:
        yield Collector(producer, database, SystemClock(), b"k" * 32, acknowledge_s)


@pytest.fixture
async def collectors(
    kafka_address: str, frames_topic: str, tmp_path: Path, database: postgres.Database
) -> AsyncIterator[tuple[Collector, Collector]]:
    """Two processes' collectors."""
    async with (
        collecting(kafka_address, frames_topic, tmp_path / "one", database) as one,
        collecting(kafka_address, frames_topic, tmp_path / "two", database) as two,
    ):
        yield one, two


def request() -> RequestKey:
    return RequestKey(secrets.token_hex(8), b"digest")


async def exact(process: WriterProcess, rows: int) -> None:
    """Every table holds so many rows, once the writer is through."""
    await process.done(rows)
    await process.stop()
    counts = await process.counts()
    assert unequal(counts, rows) == {}, counts


@pytest.mark.promise("ANALYTICS-6")
async def test_a_batch_that_is_sent_again_to_any_collector_adds_nothing_within_a_range(
    collectors: tuple[Collector, Collector], writer_process: WriterProcess
) -> None:
    """The last batch has rows behind those of the tries in every partition, so that they have been read when it is stored."""
    one, two = collectors
    key = request()
    for collector in (one, two, one):
        assert (await collector.collect(ALICE, BATCH, None, key)).accepted == len(BATCH)
    await two.collect(ALICE, OTHER, None, request())
    await writer_process.start()
    await exact(writer_process, len(BATCH) + len(OTHER))


@pytest.mark.promise("ANALYTICS-6")
async def test_a_batch_that_is_sent_again_later_and_after_the_writer_died_adds_nothing(
    collectors: tuple[Collector, Collector], writer_process: WriterProcess
) -> None:
    one, two = collectors
    key, last = request(), request()
    await one.collect(ALICE, BATCH, None, key)
    await writer_process.start()
    await writer_process.done(len(BATCH))
    await two.collect(ALICE, BATCH, None, key)
    await one.collect(ALICE, OTHER, None, last)
    await writer_process.done(len(BATCH) + len(OTHER))
    await writer_process.stop()
    for each, batch in ((key, BATCH), (last, OTHER)):
        await two.collect(ALICE, batch, None, each)
    await one.collect(ALICE, BATCH, None, request())
    await writer_process.start()
    await exact(writer_process, 2 * len(BATCH) + len(OTHER))


@pytest.mark.promise("ANALYTICS-6", "GATEWAY-11")
async def test_what_a_dead_collector_left_on_its_disk_and_the_retry_that_another_took_count_once(
    kafka_address: str,
    frames_topic: str,
    tmp_path: Path,
    database: postgres.Database,
    collectors: tuple[Collector, Collector],
    writer_process: WriterProcess,
) -> None:
    """The first collector has no log, so its client hears 503; its successor finds the rows in the journal and sends them after all."""
    one, two = collectors
    key = request()
    async with collecting(NOWHERE, frames_topic, tmp_path / "dead", database, acknowledge_s=0.2) as dying:
        with pytest.raises(OutcomeUnknown):
            await dying.collect(ALICE, BATCH, None, key)
    await two.collect(ALICE, BATCH, None, key)
    with pytest.raises(RequestIdReused):
        await two.collect(ALICE, OTHER, None, RequestKey(key.id, b"another"))
    async with collecting(kafka_address, frames_topic, tmp_path / "dead", database) as successor:
        await successor.collect(ALICE, OTHER, None, request())
    await one.collect(ALICE, BATCH, None, request())
    await writer_process.start()
    await exact(writer_process, 2 * len(BATCH) + len(OTHER))
