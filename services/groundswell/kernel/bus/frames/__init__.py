"""Frames: telemetry as columns. One Kafka record carries one Arrow record batch of up to 8,192 rows.

Fewer, bigger messages are what lets Python carry a million events a second. `codec` turns rows into frames and back,
`journal` keeps rows on disk until the log has them, `replay` finds them there again and `stored` reads them when their turn
comes, `producer` takes rows, and a `lane` for each partition cuts frames of them and delivers each, in order, until the log
acknowledges it; `left` sends what a process left that is run no more.

Exactly once rests on one invariant: a frame is named by (producer_id, partition, frame_seq) and its rows never change,
not even when a successor process sends it again after a crash. Readers drop a frame whose number is at or below the
newest they hold.
"""

from groundswell.kernel.bus.frames.codec import (
    BOT,
    EARLY,
    LATE,
    PARKED,
    ROWS_MAX,
    SCHEMA,
    TOP_BIT,
    CorruptFrame,
    Frame,
    Group,
    Header,
    Row,
    decode,
    encode,
    item_id,
    partition_of,
    partitions_of,
    record_batch,
)
from groundswell.kernel.bus.frames.journal import Journal, JournalBusy, JournalFull, Unjournaled
from groundswell.kernel.bus.frames.left import send_left
from groundswell.kernel.bus.frames.producer import FrameProducer, opened
from groundswell.kernel.bus.frames.sender import KafkaSender, Sender
from groundswell.kernel.bus.frames.settings import FrameSettings

__all__ = [
    "BOT",
    "EARLY",
    "LATE",
    "PARKED",
    "ROWS_MAX",
    "SCHEMA",
    "TOP_BIT",
    "CorruptFrame",
    "Frame",
    "FrameProducer",
    "FrameSettings",
    "Group",
    "Header",
    "Journal",
    "JournalBusy",
    "JournalFull",
    "KafkaSender",
    "Row",
    "Sender",
    "Unjournaled",
    "decode",
    "encode",
    "item_id",
    "opened",
    "partition_of",
    "partitions_of",
    "record_batch",
    "send_left",
]
