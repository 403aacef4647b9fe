"""Notes and their rule."""

import pytest
from groundswell.bookmarks import errors, model


@pytest.mark.promise("BOOKMARKS-1")
def test_a_note_that_is_too_long_is_refused() -> None:
    with pytest.raises(errors.NoteTooLong, match=str(model.NOTE_LENGTH_MAX + 1)):
        model.checked_note("x" * (model.NOTE_LENGTH_MAX + 1))
