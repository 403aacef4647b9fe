"""The stream processor: frames from the log into the live counters, and the rebuild of their window after a restart."""

import logging
from collections.abc import Sequence
from pathlib import Path

from groundswell.analytics.model.window import WINDOW_S
from groundswell.analytics.service.live import LiveCounters
from groundswell.kernel import streams
from groundswell.kernel.bus.replay import replay
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

GROUP = "analytics.live"


def live_stream(
    bootstrap: str, topic: str, instance: str, data: Path, counters: LiveCounters, clock: Clock
) -> streams.Stream:
    """The stream that keeps `counters`. What its group has committed is counted again from the log before it goes on."""

    async def count(records: Sequence[streams.Record]) -> None:
        counters.take(records)

    async def rebuild(assignments: Sequence[streams.Assignment]) -> None:
        since_ms = clock.now_ms() - WINDOW_S * 1000
        for assignment in assignments:
            if not assignment.offset:
                continue
            replayed = 0
            async for records in replay(
                bootstrap, topic, assignment.partition, since_ms=since_ms, until=assignment.offset
            ):
                counters.take(records, replayed=True)
                replayed += len(records)
            log.info("rebuilt the window of partition %d from %d frames", assignment.partition, replayed)

    return streams.Stream(bootstrap, GROUP, topic, instance, data, count, rebuild, counters.complete)
