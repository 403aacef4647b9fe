"""Bookmarks and the rule of their notes."""

from dataclasses import dataclass

from groundswell.bookmarks import errors

NOTE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Bookmark:
    """One thing to find again."""

    id: int
    owner: str
    note: str


def checked_note(note: str) -> str:
    """`note` when it is short enough; raises `NoteTooLong`."""
    if len(note) > NOTE_LENGTH_MAX:
        raise errors.NoteTooLong(len(note), NOTE_LENGTH_MAX)
    return note
