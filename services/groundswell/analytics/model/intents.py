"""The notes that the writer and the rollups leave with their offsets.

`I:a-b` is an intent: the offsets a to b are about to be stored. `T:x` says that totals are published for everything below x.
"""

import re
from dataclasses import dataclass

_NOTE = re.compile(r"(?:I:(?P<first>\d+)-(?P<last>\d+))?;?(?:T:(?P<totals>\d+))?")


@dataclass(frozen=True, slots=True)
class Note:
    """What a note says; `intent` is (first, last), both included."""

    intent: tuple[int, int] | None = None
    totals: int | None = None

    def __str__(self) -> str:
        parts = [f"I:{self.intent[0]}-{self.intent[1]}"] if self.intent else []
        parts += [f"T:{self.totals}"] if self.totals is not None else []
        return ";".join(parts)


def parse(text: str) -> Note:
    """The note in `text`; one that cannot be read says nothing."""
    match = _NOTE.fullmatch(text)
    if match is None:
        return Note()
    first, last, totals = match.group("first", "last", "totals")
    return Note((int(first), int(last)) if first is not None else None, int(totals) if totals is not None else None)
