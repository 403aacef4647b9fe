"""How a process writes frames; readers take the topic from here as well."""

from groundswell.kernel import settings
from groundswell.kernel.bus.frames import codec


@settings.section("FRAMES")
class FrameSettings:
    """How this process writes frames."""

    topic: str = "analytics.frames.v1"
    """Where frames go."""
    partitions: int = 4
    """Partitions of the topic. A change moves users to other partitions; do it while no frames are written. What the
    journal still holds goes to the partitions that it was meant for."""
    journal: bool = True
    """Whether rows are kept on disk until they are acknowledged. Off, a crash loses them: only for tests of the
    protection."""
    acks: str = "all"
    """`all`: a frame counts as delivered when every in-sync replica has it. `0` and `1` lose frames: only for tests."""
    flush_ms: int = 50
    """How long a row waits at most for others to share its frame. Each frame costs its producer, the broker and every reader about a
    millisecond of CPU, however few its rows are."""
    frame_rows_max: int = codec.ROWS_MAX
    """Rows in a frame, at most 8,192."""
    frame_bytes_max: int = codec.COLUMNS_BYTES_MAX
    """Bytes of columns, before compression, at which a frame is cut, at most 512 KiB."""
    journal_bytes_max: int = 256 << 20
    """Bytes on disk at which rows are refused."""
    segment_bytes: int = 16 << 20
    """Bytes at which a new segment of the journal begins; segments are what is deleted."""
