"""64-bit ids, ordered by time: 41 bits of milliseconds since the project's epoch, 13 bits of logical shard, 10 bits of sequence.

Two processes may draw the same millisecond and sequence only if they also draw the same shard, so each process takes a random
shard for ids that belong to no shard of their own; owners of sharded rows pass the row's shard.
"""

import secrets

from groundswell.kernel.clock import Clock

EPOCH_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
SHARDS = 8192
SEQUENCE_MAX = 1024


class Ids:
    """Draws ids. Not thread-safe: one per event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shard = secrets.randbelow(SHARDS)
        self._last_ms = 0
        self._sequence = 0

    def next(self, shard: int | None = None) -> int:
        """A new id, above every earlier one of this process and shard; `shard` is 0 to 8191.

        A clock that steps back, or over 1,024 ids in a millisecond, borrows from the next millisecond instead of waiting.
        """
        now = self._clock.now_ms()
        if now > self._last_ms:
            self._last_ms, self._sequence = now, secrets.randbelow(64)
        else:
            self._sequence += 1
            if self._sequence == SEQUENCE_MAX:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        return compose(self._last_ms, self._shard if shard is None else shard, self._sequence)


def compose(time_ms: int, shard: int, sequence: int) -> int:
    """The id of these parts."""
    return (time_ms - EPOCH_MS) << 23 | shard << 10 | sequence


def time_ms_of(id_: int) -> int:
    """When the id was drawn, in milliseconds since 1970."""
    return (id_ >> 23) + EPOCH_MS


def shard_of(id_: int) -> int:
    """The logical shard of the id."""
    return id_ >> 10 & (SHARDS - 1)
