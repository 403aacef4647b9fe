"""`python protos/releasing.py`: keeps the compiled protos of this version, which every later version is held against.

An image never changes: whoever was built against that version has exactly that. It is a FileDescriptorSet with its imports, so that the
comparison needs neither a tag nor the network.
"""

import sys
import tomllib
from pathlib import Path

import generate

RELEASES = generate.PROTOS / "releases"
NAME = "groundswell"


def version() -> str:
    """The version of the project."""
    return str(tomllib.loads((generate.PROTOS.parent / "pyproject.toml").read_text())["project"]["version"])


def image(of: str) -> Path:
    """Where the protos of a version are kept."""
    return RELEASES / f"{NAME}-{of}.binpb"


def newest() -> Path:
    """The image of the last version that was released; raises `ValueError` when none is kept."""
    return max(RELEASES.glob(f"{NAME}-*.binpb"), key=_numbers)


def _numbers(file: Path) -> tuple[int, ...]:
    """What versions are ordered by."""
    return tuple(int(each) for each in file.stem.removeprefix(f"{NAME}-").split("."))


def main() -> int:
    kept = image(version())
    if kept.exists():
        print(f"{kept.name} is released already: raise the version in pyproject.toml first", file=sys.stderr)
        return 1
    RELEASES.mkdir(exist_ok=True)
    generate.image(generate.PROTOS, kept, comments=False)
    print(f"kept {kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
