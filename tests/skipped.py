"""Says aloud at the end of a run what was not tested, and what to do about it."""

import pytest

NO_CHROMIUM = "no Chromium found: install `chromium`, or name one in CHROMIUM"
NO_PGBOUNCER = "no PgBouncer found: install `pgbouncer`, or name one in PGBOUNCER"


def name_skipped(reporter: pytest.TerminalReporter, *reasons: str) -> None:
    """Counts and names the tests that were skipped for each of the reasons."""
    for reason in reasons:
        skipped = sorted({each.nodeid for each in reporter.stats.get("skipped", []) if reason in str(each.longrepr)})
        if skipped:
            reporter.write_sep("=", f"{len(skipped)} tests SKIPPED: {reason}", yellow=True, bold=True)
            for name in skipped:
                reporter.write_line(f"  {name}")
