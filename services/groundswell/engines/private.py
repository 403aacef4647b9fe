"""Files that their owner alone may read: they hold keys, or addresses with passwords."""

import json
import os
from pathlib import Path
from typing import Any


def write(file: Path, content: dict[str, Any]) -> None:
    """Replaces `file` at once by `content` as JSON, at no moment readable by others. One process at a time writes a file."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream, indent=2)
    fresh.rename(file)
