"""faust inside our own loop, under rules that keep its known data-loss edges shut.

At least once: batches are taken without acknowledging, their effect happens, then each record is acknowledged. faust may commit
past a record that is not finished (its gap search trusts a committed offset of 0 or None, and takes what it never saw for a
hole), so the guard commits at most the oldest unfinished offset. There are no tables and no windows of faust's: state is the
caller's, and is rebuilt from the log when partitions arrive, before the first record of theirs is read. Liveness is measured: where
a partition's committable offset stands still while its log's end is ahead, or the client cannot go on in its group, the process fails,
and the supervisor starts it again.
"""

from groundswell.kernel.streams.running import Assignment, Record, Stream, StreamDied, run

__all__ = ["Assignment", "Record", "Stream", "StreamDied", "run"]
