"""Moves a family to another version: `python -m tests.cluster.tools.pin kubernetes v1.36.4`; without a version, records it anew.

Writes the module files from nothing and lets `go mod tidy` fill in the rest, which asks the network and the public log of checksums. Read
the difference before you commit it: from then on it is what everybody builds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.tools.build import ENVIRONMENT, NOTHING, check_go
from tests.cluster.tools.families import CLUSTER, KUBERNETES, MONITORING, Family

_STAGED = re.compile(r"^\s*(k8s\.io/[\w.-]+) v0\.0\.0(?:\s*//.*)?$", re.MULTILINE)
"""A module that Kubernetes keeps in its own repository: nobody but Kubernetes finds it under this version."""


def pin(family: Family, version: str, environment: Mapping[str, str] = NOTHING) -> None:
    """Writes the family's module files for that version. Raises `CalledProcessError` after Go has said why.

    `environment` is added to this process's.
    """
    check_go(family, environment)
    lines = ["module tools", f"go {family.go_version}", f"require {family.module} {version}"]
    lines += _replacements(family, version, environment)
    (family.folder / "go.mod").write_text("\n\n".join(lines) + "\n")
    (family.folder / "go.sum").unlink(missing_ok=True)
    imports = "".join(f'\t_ "{package}"\n' for package in family.programs.values())
    (family.folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports})\n")
    _go(family.folder, environment, "mod", "tidy")


def _replacements(family: Family, version: str, environment: Mapping[str, str]) -> list[str]:
    """Where Kubernetes' own parts are published: v0.36.3 of each for v1.36.3 of the whole. The list differs from minor to minor."""
    if family is not KUBERNETES:
        return []
    found = json.loads(_go(Path("/"), environment, "mod", "download", "-json", f"{family.module}@{version}"))
    published = version.replace("v1.", "v0.", 1)
    return [f"replace {name} => {name} {published}" for name in _STAGED.findall(Path(found["GoMod"]).read_text())]


def _go(folder: Path, environment: Mapping[str, str], *words: str) -> str:
    return subprocess.run(
        ["go", *words],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def main() -> None:
    """The command."""
    families = {family.name: family for family in (*CLUSTER, *MONITORING)}
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.tools.pin", description=__doc__)
    parser.add_argument("family", choices=families)
    parser.add_argument("version", nargs="?", help="such as v1.36.4; the pinned one unless given")
    options = parser.parse_args()
    family = families[options.family]
    pin(family, options.version or family.version)


if __name__ == "__main__":
    main()
