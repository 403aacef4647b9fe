"""What the log's retention takes from the writer, and how near it is to that.

The log removes records after a week, stored or not, and a reader goes on behind what is gone without a word. So the writer counts what it
never got, and tells at all times how far it is, also while nothing can be stored: so that somebody comes before the week is over.
"""

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

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


GAPS_MAX = 64
"""Stretches of lost offsets that are remembered of a partition: far more than lie among what is tried again."""


def gone(first: int, records: Iterable[LogRecord], end: int) -> Iterator[range]:
    """The offsets from `first` to before `end` of which the log gave no record."""
    offsets = [first - 1, *(record.offset for record in records), end]
    return (range(before + 1, after) for before, after in itertools.pairwise(offsets) if before + 1 < after)


class Lost:
    """Counts what the log has removed before it was stored: each offset once, however often this process tries its range.

    It is told before the range is stored. Later would be too late: the store may hold the range though neither the answer to the insert
    nor the commit got through, and then nobody looks at it again. So what a process counted that died with the range begun, the next one
    counts too: it is rather said twice than never.
    """

    def __init__(self) -> None:
        self._counted: dict[int, deque[range]] = {}

    def watch(self, partition: int) -> None:
        """The partition's count is there from now on, at zero if nothing is lost."""
        LOST.labels(str(partition))

    def note(self, partition: int, gaps: Iterable[range]) -> None:
        """The log has removed these offsets, which are not stored, or in part."""
        counted = self._counted.setdefault(partition, deque(maxlen=GAPS_MAX))
        for gap in gaps:
            for each in _beyond(gap, counted):
                counted.append(each)
                LOST.labels(str(partition)).inc(len(each))
                log.error(
                    "%d offsets of partition %d from %d on were removed from the log before they were stored: their events are lost.",
                    len(each),
                    partition,
                    each.start,
                )


def _beyond(gap: range, counted: Iterable[range]) -> list[range]:
    """What of the gap was not counted."""
    left = [gap] if gap else []
    for each in counted:
        cut = [
            (range(part.start, min(part.stop, each.start)), range(max(part.start, each.stop), part.stop))
            for part in left
        ]
        left = [part for parts in cut for part in parts if part]
    return left


def note_waiting(clock: Clock, waiting: Iterable[Sequence[LogRecord]]) -> None:
    """These records, in the log's order, are not stored yet, and nothing else is."""
    oldest_ms = min((records[0].timestamp for records in waiting if records), default=clock.now_ms())
    STORED_UNTIL.set(oldest_ms / 1000)
