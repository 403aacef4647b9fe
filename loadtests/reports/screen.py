"""Progress on a terminal: events stay, the line of the second is redrawn; without a terminal each second is a line of its own."""

import sys
import time

from loadtests.generator.child import Progress
from loadtests.oracles.freshness import Sample

CLEAR = "\r\x1b[K"


class Screen:
    """Tells a person what happens."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._began_s = time.monotonic()
        self._last = Progress()

    def say(self, line: str) -> None:
        """An event."""
        start = CLEAR if self._is_terminal else ""
        print(f"{start}[{time.monotonic() - self._began_s:5.1f} s] {line}", flush=True)

    def watch(self, progress: Progress, sample: Sample | None) -> None:
        """The state of the load, once a second."""
        if progress.done or not progress.elapsed_s:
            return
        if progress.elapsed_s < self._last.elapsed_s:  # another load
            self._last = Progress()
        rate = (progress.promised - self._last.promised) / max(progress.elapsed_s - self._last.elapsed_s, 0.001)
        self._last = progress
        page = f"live page {_counted(sample):>8}"
        waiting = f"  waiting {progress.waiting:,}" if progress.waiting else ""
        line = f"  {progress.elapsed_s:5.1f} s  {rate:6,.0f}/s  answered {progress.promised:>8,}  {page}{waiting}"
        print(f"{CLEAR}{line}" if self._is_terminal else line, end="" if self._is_terminal else "\n", flush=True)


def _counted(sample: Sample | None) -> str:
    """A dash while a process that has just started still reads its counters from the log: what it has so far is no count."""
    if sample is None:
        return "none"
    return f"{sample.events:,}" if sample.is_complete else "–"
