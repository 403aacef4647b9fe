"""The writer dies anywhere, and every number stays exact.

Goal: ANALYTICS-2. Method: a real writer in a child process with a failpoint that kills it (SIGKILL) at one step of its protocol, a
successor on the same store, and then the rows of every table against what the log acknowledged.
"""

import signal
import time
from pathlib import Path

import pytest

from groundswell.analytics.store import schema
from groundswell.kernel.bus import frames
from tests.analytics.conftest import TENANT, WriterProcess, acknowledged

ROWS = 3_000
ROWS_AT_ONCE = 500
"""Ten frames."""
FAILPOINTS = (
    "writer.after_fetch",
    "writer.after_intent",
    "writer.after_batches",
    "writer.after_rows",
    "writer.after_frames",
    "writer.after_commit",
    "writer.rollup_after_intent",
    "writer.rollup_after_by_second",
    "writer.rollup_after_by_item_minute",
    "writer.rollup_after_commit",
    "writer.before_totals",
    "writer.after_totals",
)


def rows(count: int) -> list[frames.Row]:
    # Recent: what is older than a table keeps would be dropped again.
    started_ms = time.time_ns() // 1_000_000 - 40_000 - 7 * count
    return [frames.Row(started_ms + n * 7, "view", TENANT, n % 31, n * 7919 + 3, flags=n % 2) for n in range(count)]


def unequal(counts: dict[str, int], expected: int) -> dict[str, int]:
    """The counts that are not `expected`."""
    return {name: counts[name] for name in ("ev", *schema.ROLLUPS, "accepted") if counts[name] != expected}


@pytest.mark.promise("ANALYTICS-2")
async def test_a_crash_at_any_step_loses_and_doubles_nothing(
    writer_process: WriterProcess, frame_producer: frames.FrameProducer, tmp_path: Path
) -> None:
    """Goal: acknowledged = raw = each rollup after kill -9 at each step. Method: who has made good what its predecessor left is the next
    to die, one step further, amid new rows; and as many more come before its own successor does."""
    given, failpoints = rows(2 * ROWS_AT_ONCE * len(FAILPOINTS)), tmp_path / "failpoints"
    await writer_process.start(GROUNDSWELL_FAILPOINTS=f"@{failpoints}")
    for n, failpoint in enumerate(FAILPOINTS):
        first, between, last = (2 * ROWS_AT_ONCE * n + more for more in (0, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE))
        (told := failpoints.with_suffix(".new")).write_text(f"{failpoint}=kill")
        told.replace(failpoints)  # so that nobody reads half of it
        await acknowledged(frame_producer, given[first:between])
        assert await writer_process.died() == -signal.SIGKILL, failpoint
        await acknowledged(frame_producer, given[between:last])
        await writer_process.start(GROUNDSWELL_FAILPOINTS=f"@{failpoints}")
        counts = await writer_process.done(last)
        assert unequal(counts, last) == {}, (failpoint, counts)
    await writer_process.stop()
    counts = await writer_process.counts()
    assert unequal(counts, len(given)) == {}, counts


async def test_what_is_committed_before_it_is_stored_is_lost_and_nothing_finds_it(
    writer_process: WriterProcess, frame_producer: frames.FrameProducer
) -> None:
    """The control of the order, and the drill's `commit-first`: a partition that were held for it would prove that instead."""
    given, first = rows(ROWS), {"WRITER_COMMIT_BEFORE_INSERT": "true"}
    await acknowledged(frame_producer, given[: ROWS // 3])
    await writer_process.start()
    await writer_process.done(ROWS // 3)
    await writer_process.stop()
    await acknowledged(frame_producer, given[ROWS // 3 : 2 * ROWS // 3])
    await writer_process.start(GROUNDSWELL_FAILPOINTS="writer.after_intent=kill", **first)
    assert await writer_process.died() == -signal.SIGKILL
    await acknowledged(frame_producer, given[2 * ROWS // 3 :])
    await writer_process.start(**first)
    await writer_process.done(2 * ROWS // 3)
    await writer_process.stop()
    counts = await writer_process.counts()
    assert 2 * ROWS // 3 <= counts["ev"] < ROWS, counts
