"""The notes that the writer and the rollups leave with their offsets.

`I:a-b` is an intent: the offsets a to b are about to be stored. `N:x` is the name under which the store will know them, where they
share a statement with other partitions. `T:x` says that totals are published for everything below x.
"""

import re
from dataclasses import dataclass

_NOTE = re.compile(r"(?:I:(?P<first>\d+)-(?P<last>\d+))?;?(?:N:(?P<name>[\w:.-]+))?;?(?:T:(?P<totals>\d+))?")


@dataclass(frozen=True, slots=True)
class Note:
    """What a note says; `intent` is (first, last), both included."""

    intent: tuple[int, int] | None = None
    totals: int | None = None
    name: str = ""

    def __str__(self) -> str:
        parts = [f"I:{self.intent[0]}-{self.intent[1]}"] if self.intent else []
        parts += [f"N:{self.name}"] if self.name else []
        parts += [f"T:{self.totals}"] if self.totals is not None else []
        return ";".join(parts)


def parse(text: str) -> Note:
    """The note in `text`; one that cannot be read says nothing."""
    match = _NOTE.fullmatch(text)
    if match is None:
        return Note()
    first, last, totals = match.group("first", "last", "totals")
    intent = (int(first), int(last)) if first is not None else None
    return Note(intent, int(totals) if totals is not None else None, match.group("name") or "")
