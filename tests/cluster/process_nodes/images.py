"""Images as folders: what a container of each starts with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FolderImage:
    """What an image's ENTRYPOINT, ENV and WORKDIR say, as seen from this machine."""

    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    """`$(POD_IP)` in a value becomes the pod's address: for programs that would otherwise listen at all of this machine's."""
    workdir: str


def save(images: Mapping[str, FolderImage], file: Path) -> None:
    """Writes images by the names that pods call them."""
    file.write_text(json.dumps({name: asdict(image) for name, image in images.items()}))


def load(file: Path) -> dict[str, FolderImage]:
    return {name: FolderImage(**told) for name, told in json.loads(file.read_text()).items()}


def python() -> FolderImage:
    """An image of nothing but this machine's Python and shell, for pods that a test makes up."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return FolderImage([sys.executable], {"PATH": path, "PYTHONUNBUFFERED": "1"}, "/")
