"""The generator's own record of what was answered.

Every outcome is a record of fixed length with a checksum, written to the log before it counts, so what a verdict
holds the platform to was on disk when the platform had said it. A torn last record is cut off by the reader; a
damaged one is an error.
"""

import os
import struct
import zlib
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt


class Outcome(IntEnum):
    """What became of one request that was sent."""

    COUNTED = 1
    SPOOLED = 2
    DROPPED = 3
    SKIPPED = 4
    UNMARKED = 5
    """A redirect that does not say what became of its view."""
    REFUSED = 6
    """An answer that is no redirect."""
    UNKNOWN = 7
    """Sent, and no answer came: it may have been counted, or not."""


BY_VIEW = {
    b"counted": Outcome.COUNTED,
    b"spooled": Outcome.SPOOLED,
    b"dropped": Outcome.DROPPED,
    b"skipped": Outcome.SKIPPED,
}
PROMISED = (Outcome.COUNTED, Outcome.SPOOLED)
"""The outcomes by which the platform has promised that the view is in every total."""

RECORD = np.dtype(
    [
        ("arrival", "<u4"),
        ("latency_us", "<u4"),
        ("at_us", "<i8"),
        ("status", "<u2"),
        ("outcome", "u1"),
        ("version", "u1"),
        ("crc", "<u4"),
    ]
)
_BODY = struct.Struct("<IIqHBB")
_VERSION = 1
_LATENCY_US_MAX = (1 << 32) - 1


class OutcomeLog:
    """Appends outcomes to a file; `append` returns when the record is in the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, arrival: int, at_us: int, latency_us: int, status: int, outcome: Outcome) -> None:
        body = _BODY.pack(arrival, min(max(latency_us, 0), _LATENCY_US_MAX), at_us, status, outcome, _VERSION)
        os.write(self._file, body + zlib.crc32(body).to_bytes(4, "little"))

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)


def read(path: Path) -> npt.NDArray[np.void]:
    """All whole records of a log, as an array of `RECORD`; raises `ValueError` for a damaged one."""
    data = path.read_bytes()
    whole = len(data) - len(data) % RECORD.itemsize
    records = np.frombuffer(data[:whole], RECORD)
    for start in range(0, whole, RECORD.itemsize):
        body, crc = data[start : start + _BODY.size], data[start + _BODY.size : start + RECORD.itemsize]
        if zlib.crc32(body).to_bytes(4, "little") != crc:
            raise ValueError(f"{path} is damaged at byte {start}.")
    return records
