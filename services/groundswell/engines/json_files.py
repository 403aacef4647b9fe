"""The JSON files of a home: replaced at once, and read again with a remedy.

Their owner alone may read them, since most hold keys, or addresses with passwords.
"""

import json
import os
from pathlib import Path
from typing import Any

from groundswell.engines.errors import SupervisorError
from groundswell.kernel import disk


def write(file: Path, content: dict[str, Any], *, lasting: bool = True) -> None:
    """Replaces `file` at once by `content` as JSON, at no moment readable by others; a `lasting` one also outlives a loss of power.

    One process at a time writes a file.
    """
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream, indent=2)
        if lasting:
            stream.flush()
            os.fsync(stream.fileno())
    fresh.rename(file)
    if lasting:
        disk.sync(file.parent)


def read(file: Path, remedy: str) -> dict[str, Any]:
    """What was written; raises `SupervisorError` with the `remedy` when the file holds something else, such as nothing."""
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SupervisorError(f"{file} is damaged, as a loss of power may leave it. {remedy}")
    return found
