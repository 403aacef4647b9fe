"""What can go wrong with bookmarks."""

from groundswell.kernel import errors


class NoteTooLong(errors.Invalid):
    def __init__(self, length: int, most: int) -> None:
        super().__init__(f"A note has at most {most} characters; this one has {length}.", field="bookmark.note")
