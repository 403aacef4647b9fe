"""The Dockerfile: its stages as text, and what they make here, without a builder.

`build` follows the COPY, ENV and RUN lines of a target and of what it copies from, one after the other, in an empty folder that stands for
the image's root. The bases are replaced by this machine's Python and Node, and the user by the one who runs the tests; everything else is
what a builder does.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.chart import ROOT

FOLDERS = ("app", "build", "console", "tools", "venv", "wheels")
"""What the Dockerfile's steps name at the image's root."""
RUN_S_MAX = 300.0


@dataclass
class Stage:
    """One stage: its base and its instructions in order."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of its RUN lines."""
        for text in self.of("RUN"):
            yield from (shlex.split(each) for each in text.split("&&"))

    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for text in self.of("ENV") for word in shlex.split(text))


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name, bases with their arguments' defaults put in."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    defaults: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "ARG" and not found:
            argument, _, default = rest.partition("=")
            defaults[argument] = default
        elif name == "FROM":
            base, stage = rest.split(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
            found[stage] = Stage(stage, base)
        else:
            [*found.values()][-1].steps.append((name, rest))
    return found


STAGES = stages()


def made_for(target: str) -> list[Stage]:
    """The stages that a builder makes for a target, in their order: itself, and what it copies from."""
    wanted = {target}
    for stage in reversed(STAGES.values()):
        if stage.name in wanted:
            wanted |= {source for text in stage.of("COPY") for source in re.findall(r"--from=(\w+)", text)}
    return [stage for stage in STAGES.values() if stage.name in wanted]


def copies() -> Iterator[tuple[str, str, str]]:
    """(stage, source, target) of every copy out of the context."""
    for stage in STAGES.values():
        for text in stage.of("COPY"):
            *sources, target = text.split()
            if not sources[0].startswith("--from="):
                yield from ((stage.name, source, target) for source in sources)


@dataclass(frozen=True)
class Image:
    """What a stage holds, in a folder."""

    root: Path
    stage: Stage

    def command(self, *arguments: str) -> list[str]:
        """What a container of the image starts with `arguments`."""
        (entry,) = self.stage.of("ENTRYPOINT")
        program, *rest = json.loads(entry)
        found = shutil.which(program, path=self.environment()["PATH"])
        assert found is not None
        return [found, *rest, *arguments]

    def environment(self) -> dict[str, str]:
        said = self.stage.environment()
        path = said["PATH"].replace("$PATH", os.environ["PATH"])
        return {name: _here(self.root, text) for name, text in {**said, "PATH": path}.items()}

    @property
    def workdir(self) -> Path:
        return self.root / self.stage.of("WORKDIR")[-1].lstrip("/")

    def files(self) -> Mapping[Path, int]:
        """Every file of the image with the time of its last change, in nanoseconds."""
        return {file: file.lstat().st_mtime_ns for file in self.root.rglob("*") if not file.is_dir()}


def build(root: Path, target: str) -> Image:
    """Follows the Dockerfile below `root`; fails with what a step said."""
    base = root / "base"
    base.mkdir()
    (base / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (base / "python").chmod(0o755)
    for stage in made_for(target):
        folder = root
        for name, text in stage.steps:
            if name == "WORKDIR":
                folder = root / text.lstrip("/")
                folder.mkdir(exist_ok=True)
            elif name == "COPY":
                _copy(root, folder, text)
            elif name == "RUN":
                _run(root, folder, text, f"{base}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    shutil.rmtree(base)
    return Image(root, STAGES[target])


def _copy(root: Path, folder: Path, text: str) -> None:
    *sources, target = [word for word in text.split() if not word.startswith("--from=")]
    among_stages = "--from=" in text
    for source in sources:
        origin = root / source.lstrip("/") if among_stages else ROOT / source
        place = root / target.lstrip("/") if target.startswith("/") else folder / target
        if origin == place:
            continue
        if origin.is_dir():
            shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True, ignore=_kept_out)
        else:
            shutil.copy(origin, place)


def _kept_out(folder: str, names: list[str]) -> set[str]:
    """What .dockerignore keeps out of a folder of the context."""
    if not Path(folder).is_relative_to(ROOT):
        return set()
    inside = Path(folder).relative_to(ROOT)
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!"]
    patterns = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    return {
        name for name in names if str(inside / name) in rules or any(Path(name).match(pattern) for pattern in patterns)
    }


def _run(root: Path, folder: Path, text: str, path: str) -> None:
    """A RUN line as a shell does it. The stage's ENV is about caches only, and this machine's caches may be used."""
    command = ["sh", "-ec", _here(root, text)]
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, f"RUN {text}\n{done.stdout.decode()}{done.stderr.decode()}"


def _here(root: Path, text: str) -> str:
    """The text with the image's paths moved below `root`."""
    return re.sub(rf"(?<![\w./])/(?={'|'.join(FOLDERS)}\b)", f"{root}/", text)
