"""Two writers on one server: one sleeps longer than its session in the middle of its work and wakes up beside its successor.

Goal: ANALYTICS-2 where the store does not keep the second writer out, as the embedded one does. Method: SIGSTOP at a failpoint, a
successor that takes the partitions over and repeats what was begun, SIGCONT, more events, and every table against what was sent.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import SESSION_S
from tests.analytics.conftest import Server, WriterProcess, acknowledged
from tests.analytics.test_writer_crash import rows, unequal

ROWS = 3_000


@pytest.mark.promise("ANALYTICS-2")
@pytest.mark.parametrize("failpoint", ["writer.after_intent", "writer.after_rows", "writer.rollup_after_intent"])
async def test_a_writer_that_wakes_up_beside_its_successor_on_one_server_loses_and_doubles_nothing(
    failpoint: str,
    kafka_address: str,
    frames_topic: str,
    frame_producer: frames.FrameProducer,
    clickhouse_server: Server,
    tmp_path: Path,
) -> None:
    one = WriterProcess(kafka_address, frames_topic, clickhouse_server.dsn, tmp_path / "one")
    two = WriterProcess(kafka_address, frames_topic, clickhouse_server.dsn, tmp_path / "two")
    given = rows(ROWS)
    await acknowledged(frame_producer, given[: ROWS // 3])
    try:
        sleeper = await one.start("one", GROUNDSWELL_FAILPOINTS=f"{failpoint}=stop")
        await stopped(sleeper.pid)
        await acknowledged(frame_producer, given[ROWS // 3 : 2 * ROWS // 3])
        await two.start("two")
        await two.done(2 * ROWS // 3, timeout_s=SESSION_S + 60)
        sleeper.send_signal(signal.SIGCONT)
        await one.done(2 * ROWS // 3)
        await acknowledged(frame_producer, given[2 * ROWS // 3 :])
        await asyncio.gather(one.done(ROWS), two.done(ROWS))
    finally:
        await one.stop()
        await two.stop()
    counts = await two.counts()
    assert unequal(counts, ROWS) == {}, counts


async def stopped(pid: int) -> None:
    """Waits until the process sleeps at its failpoint."""
    async with asyncio.timeout(40):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            await asyncio.sleep(0.05)
