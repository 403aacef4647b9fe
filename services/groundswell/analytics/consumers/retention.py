"""What the log's retention takes from the writer, and how near it is to that.

The log removes records after a week, stored or not, and a reader goes on behind what is gone without a word. So the writer counts what it
never got, and tells at all times how far it is, also while nothing can be stored: so that somebody comes before the week is over.
"""

import logging
from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Gauge

from groundswell.analytics.service.storing import LogRecord
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

LOST = Counter(
    "groundswell_writer_lost_offsets_total", "Offsets that the log removed before they were stored.", ["partition"]
)
STORED_UNTIL = Gauge(
    "groundswell_writer_stored_until_timestamp_seconds",
    "When the oldest record came that this process is to store and has not; now while there is none.",
)


def note_lost(partition: int, first: int, count: int) -> None:
    """The log has removed `count` offsets from `first` on, which are not stored, or in part. None, or less, is a zero to begin with."""
    LOST.labels(str(partition)).inc(max(0, count))
    if count > 0:
        log.error(
            "%d offsets of partition %d from %d on were removed from the log before they were stored: their events are lost.",
            count,
            partition,
            first,
        )


def note_waiting(clock: Clock, waiting: Iterable[Sequence[LogRecord]]) -> None:
    """These records, in the log's order, are not stored yet, and nothing else is."""
    oldest_ms = min((records[0].timestamp for records in waiting if records), default=clock.now_ms())
    STORED_UNTIL.set(oldest_ms / 1000)
