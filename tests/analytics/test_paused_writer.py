"""A writer that slept longer than its session wakes up beside a successor, and every number stays exact."""

import asyncio
import signal

import pytest

from groundswell.kernel.bus import frames
from groundswell.kernel.bus.intents import SESSION_S
from tests.analytics.conftest import WriterProcess, acknowledged
from tests.analytics.test_writer_crash import rows, unequal

ROWS = 2_000


@pytest.mark.promise("ANALYTICS-2")
async def test_a_paused_writer_that_wakes_up_after_its_group_gave_it_up_loses_and_doubles_nothing(
    writer_process: WriterProcess, frame_producer: frames.FrameProducer
) -> None:
    """Goal: the pause fences nothing wrong and nobody else writes meanwhile. Method: SIGSTOP in the middle of an insert for longer than
    a session; a successor is started, which must not open the store that the sleeper still owns; SIGCONT, and the counts."""
    given = rows(ROWS)
    await acknowledged(frame_producer, given[: ROWS // 2])
    sleeper = await writer_process.start(GROUNDSWELL_FAILPOINTS="writer.after_rows=stop")
    await asyncio.sleep(SESSION_S + 2)  # the time is what is tested: the group gives the sleeper up
    await acknowledged(frame_producer, given[ROWS // 2 :])
    successor = await writer_process.start("two")
    async with asyncio.timeout(20):
        assert await successor.wait() != 0, "two processes had the store open"
    sleeper.send_signal(signal.SIGCONT)
    await writer_process.done(ROWS)
    sleeper.kill()
    await sleeper.wait()
    counts = await writer_process.counts()
    assert unequal(counts, ROWS) == {}, counts
