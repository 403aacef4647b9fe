"""Latency histograms with logarithmic buckets.

Each bucket is 2 % wide and stands for its geometric middle, so a percentile is off by at most 1 %, and histograms of
several seconds or processes merge by addition. Averages of percentiles are never taken.
"""

import math

import numpy as np
import numpy.typing as npt

GROWTH = 1.02
BUCKETS = 1_050
"""Up to 1.02 ** 1050 µs, about 17 minutes; longer ones fall into the last bucket."""
_LOG_GROWTH = math.log(GROWTH)


class Histogram:
    """Counts of latencies in microseconds."""

    def __init__(self, counts: npt.NDArray[np.int64] | None = None) -> None:
        self.counts = np.zeros(BUCKETS, np.int64) if counts is None else counts

    def add(self, latency_us: float) -> None:
        bucket = int(math.log(latency_us) / _LOG_GROWTH) if latency_us > 1 else 0
        self.counts[min(bucket, BUCKETS - 1)] += 1

    def merged(self, other: "Histogram") -> "Histogram":
        return Histogram(self.counts + other.counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def percentile_us(self, share: float) -> float:
        """The latency that `share` (0 to 1) of all do not exceed; 0.0 when there are none."""
        total = self.total
        if not total:
            return 0.0
        rank = max(math.ceil(share * total), 1)
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return float(GROWTH ** (bucket + 0.5))


def of(latencies_us: npt.NDArray[np.int64]) -> Histogram:
    """The histogram of many latencies at once."""
    buckets = (np.log(np.maximum(latencies_us, 1)) / _LOG_GROWTH).astype(np.int64)
    return Histogram(np.bincount(np.minimum(buckets, BUCKETS - 1), minlength=BUCKETS).astype(np.int64))
