"""Skaffold's own schema of skaffold.yaml, from Skaffold's module: `python -m tests.cluster.tools.schema` puts it beside the programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.tools.build import ENVIRONMENT, NOTHING, BuildError, Say, advice
from tests.cluster.tools.families import cache


@dataclass(frozen=True, slots=True)
class Schema:
    """A file of one version of a module, whose content `sum` vouches for as go.sum does."""

    module: str
    version: str
    sum: str
    path: str

    def file(self, environment: Mapping[str, str] = os.environ) -> Path:
        """Where it is kept on this machine; another version is another file."""
        return cache(environment) / "schemas" / f"{self.version}-{Path(self.path).name}"

    def fetch(self, say: Say, environment: Mapping[str, str] = NOTHING) -> None:
        """Fetches it unless it is there; `environment` is added to this process's. Raises `BuildError`."""
        surroundings = {**os.environ, **ENVIRONMENT, **environment}
        file = self.file(surroundings)
        if file.exists():
            return
        say(f"fetching {self.path} of {self.module} {self.version}")
        command = ["go", "mod", "download", "-json", f"{self.module}@{self.version}"]
        answer = subprocess.run(command, cwd="/", env=surroundings, capture_output=True, text=True, check=False)
        told = json.loads(answer.stdout or "{}")
        if "Dir" not in told:
            said = told.get("Error") or answer.stderr.strip()
            raise BuildError(f"The schema of skaffold.yaml was not fetched. {advice(said)}\nGo said:\n{said}")
        if told["Sum"] != self.sum:
            raise BuildError(f"{self.module} is not the one whose checksum is recorded, so it was not used.")
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_bytes((Path(told["Dir"]) / self.path).read_bytes())
        draft.replace(file)


SKAFFOLD = Schema(
    module="github.com/GoogleContainerTools/skaffold/v2",
    version="v2.16.1",
    sum="h1:eMrp2qpn/5j2c1P/JqLo+mxcpEIdtokb/tCY2W/05ic=",
    path="docs-v2/content/en/schemas/v4beta13.json",
)


if __name__ == "__main__":
    try:
        SKAFFOLD.fetch(print)
    except BuildError as error:
        sys.exit(f"\n{error}")
