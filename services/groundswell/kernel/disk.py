"""What outlives a loss of power: a file's content when it was fsynced, its name when its folder was."""

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Puts the folder's names on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
