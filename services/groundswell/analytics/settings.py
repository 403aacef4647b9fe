"""Settings of the analytics modules."""

from groundswell.kernel import settings


@settings.section("WRITER")
class WriterSettings:
    """How events reach the store."""

    flush_ms: int = 400
    """How long rows wait at most for others to share their insert."""
    flush_rows: int = 524_288
    """Rows of one partition that are stored at once; big blocks are what makes the store cheap."""
    rollup_ms: int = 1_000
    """Pause between two rollups; everything pending goes into one, so they grow with the load."""
    rollup_offsets_max: int = 2_000
    """Offsets of one partition that a rollup takes at most, and of which totals are published at once: up to 16 million rows."""
    deduplication_window: int = 20_000
    """Inserts whose tokens each table remembers. 0 counts a replay twice: only for tests of the protection."""
    count_before_repeat: bool = True
    """Counts what a table holds of a range before the range is stored again. Off, tokens alone decide, and a crash may have noted a
    token without its rows: only for tests of the protection."""
    refill: bool = False
    """Whether a log that lost its end is filled with void records up to where it had been, and what came into it since is stored. Not by
    default: a log may be catching up, and what was not stored of the lost end is given up. Turn it off again once nothing is held."""
    commit_before_insert: bool = False
    """Commits offsets before rows are stored. A crash then loses rows: only for tests of the protection."""


@settings.section("ANALYTICS")
class AnalyticsSettings:
    """What clients may ask."""

    acknowledge_s: float = 10.0
    """How long the collector waits for the log before it says that the outcome is unknown."""
    queries_per_tenant: int = 8
    """Queries of one tenant at once, of which the store works on some and the others wait; the next one is refused. One that its caller
    has given up counts until the store is done with it."""
    answers_kept: int = 1_000
    """Answers over closed ranges that are kept for a minute."""
