"""The image, as far as it can be judged without building it: its instructions, its locks, its wheel, and what the code needs to run.

The steps that need a builder and base images are in docs/deploy.md's list of what is not proven.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from groundswell import main
from groundswell.engines import topology
from tests.cluster.chart import ROOT, render

VERSION = re.compile(r":\d+\.\d+\.\d+\S*$|@sha256:[0-9a-f]{64}$")
FETCHES = ("curl", "wget", "apt-get", "apk", "git")


@dataclass
class Stage:
    """One stage: its base and its instructions in order."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


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


def test_the_stages_are_there_and_each_base_has_a_version() -> None:
    assert list(STAGES) == ["console", "packages", "runtime"]
    for stage in STAGES.values():
        assert VERSION.search(stage.base), stage.base
    assert STAGES["packages"].base == STAGES["runtime"].base, "an environment belongs to its interpreter"


def test_the_bases_are_of_versions_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = version(STAGES["runtime"].base)
    assert project["requires-python"] == ">=3.11"
    assert python[:2] == (3, 11), "the locks are resolved from 3.11 on, and the tests run with it"
    least = json.loads((ROOT / "console" / "package.json").read_text())["engines"]["node"]
    assert version(STAGES["console"].base) >= tuple(int(part) for part in least.removeprefix(">=").split("."))


def test_nothing_is_fetched_but_locked_packages() -> None:
    for stage in STAGES.values():
        assert {name for name, _ in stage.steps} <= {"COPY", "RUN", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}
        for command in commands(stage):
            assert command[0] not in FETCHES
            if "pip" in command[0] and command[1] == "install":
                assert "--no-index" in command or {"--require-hashes", "--only-binary"} <= set(command), command
            if command[0] == "npm":
                assert command[1] in {"ci", "run"}


def test_the_process_runs_as_a_numbered_user_that_the_chart_names_too() -> None:
    runtime = STAGES["runtime"]
    (user,) = runtime.of("USER")
    number, group = user.split(":")
    assert int(number) == int(group) > 0
    assert not runtime.of("RUN"), "nothing is changed as root after the copies"
    for component, _, pod in render({}).pods():
        if pod["containers"][0]["image"].startswith("groundswell:"):
            assert pod["securityContext"]["runAsUser"] == int(number), component


def test_the_image_starts_the_command_line_and_knows_its_console() -> None:
    runtime = STAGES["runtime"]
    assert json.loads(runtime.of("ENTRYPOINT")[0]) == ["groundswell"]
    environment = dict(word.split("=", 1) for text in runtime.of("ENV") for word in shlex.split(text))
    (copied,) = [text.split() for text in runtime.of("COPY") if "--from=console" in text]
    assert environment["GATEWAY_CONSOLE"] == copied[-1]
    assert copied[-2] == f"{STAGES['console'].of('WORKDIR')[0]}/dist"
    for component, _, pod in render({}).pods():
        (container,) = pod["containers"]
        if container["image"].startswith("groundswell:") and component != "test":
            assert "command" not in container, component


def test_what_is_copied_is_there_and_let_in() -> None:
    """The context is empty but for what .dockerignore lets in; what it lets in is what is copied."""
    copied = {source.rstrip("/") for _, source, _ in copies()}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == each or source.startswith(f"{each}/") for each in let_in), source
    assert all(any(source == each or source.startswith(f"{each}/") for source in copied) for each in let_in)
    kept_out = [line for line in rules[1:] if not line.startswith("!")]
    for built in ("console/dist", "console/node_modules", "**/__pycache__"):
        assert built in kept_out


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from what the Dockerfile copies for it and from nothing else."""
    context = tmp_path_factory.mktemp("context")
    for stage, source, target in copies():
        if stage == "packages":
            place = context / target.removeprefix("./")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(exist_ok=True, parents=True)
                shutil.copy(ROOT / source, place)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "wheels"]
    subprocess.run(command, cwd=context, check=True, capture_output=True)
    (made,) = (context / "wheels").glob("*.whl")
    return zipfile.ZipFile(made)


def test_the_wheel_holds_what_prepare_and_run_read_besides_code(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    placement = topology.load("all")
    assert placement.topics is not None
    topics = {f"groundswell/topics/{each.name}" for each in placement.topics.glob("*.yaml")}
    package = ROOT / "services" / "groundswell"
    migrations = {f"groundswell/{each.relative_to(package)}" for each in package.rglob("migrations/*.sql")}
    assert topics | migrations | {"groundswell/engines/topology.yaml", "groundswell/gateway/crawlers.txt"} <= names
    assert len(topics) == 5
    assert len(migrations) >= 5
    described = wheel.read("groundswell/engines/topology.yaml").decode()
    (told,) = re.findall(r"^topics: (\S+)", described, re.MULTILINE)
    assert told == "../topics", "as seen from groundswell/engines"
    assert {name.partition("/")[0] for name in names} == {"groundswell", "groundswell-0.1.0.dist-info"}


def test_the_image_holds_the_projects_own_packages_and_no_extra(locked: dict[str, dict[str, set[str]]]) -> None:
    """Each pin of the image is the one that the tests run with, to the hash."""
    whole, image, build = (
        locked["requirements.lock"],
        locked["requirements.image.lock"],
        locked["requirements.build.lock"],
    )
    for part in (image, build):
        for package, hashes in part.items():
            assert hashes == whole[package], package
    names = {package.partition("==")[0] for package in image}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {normal(each) for each in project["dependencies"]}
    extras = {
        normal(each)
        for each in [*project["optional-dependencies"]["engines"], *project["optional-dependencies"]["dev"]]
    }
    assert direct <= names
    assert not names & (extras - direct)
    assert "hatchling" in {package.partition("==")[0] for package in build}


@pytest.fixture(scope="module")
def locked() -> dict[str, dict[str, set[str]]]:
    """Lock file → `name==version` → hashes."""
    return {file.name: pins(file) for file in ROOT.glob("requirements*.lock")}


def test_no_lock_names_a_place_to_fetch_from(locked: dict[str, dict[str, set[str]]]) -> None:
    assert len(locked) == 3
    for name in locked:
        assert "://" not in (ROOT / name).read_text(), name
        assert all(locked[name].values()), f"{name}: a package without a hash"


def test_every_module_and_command_of_the_image_starts_without_the_extras() -> None:
    """Method: an interpreter that has no package which only the extras bring, and everything that the image may be asked to do."""
    image = {each.partition("==")[0] for each in pins(ROOT / "requirements.image.lock")}
    whole = {each.partition("==")[0] for each in pins(ROOT / "requirements.lock")}
    program = f"""
import importlib.metadata, sys
from importlib.machinery import PathFinder
missing = {sorted(whole - image)!r}
tops = {{top for top, owners in importlib.metadata.packages_distributions().items()
        if all(owner.lower().replace("_", "-") in missing for owner in owners)}}
class Image(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in tops else super().find_spec(name, path, target)
sys.meta_path[:] = [Image if each is PathFinder else each for each in sys.meta_path]
assert "chdb" in tops and "pytest" in tops, tops
from groundswell import __main__, main
for factory in main.MODULES:
    main._factory(factory)
import groundswell.engines.preparing, groundswell.engines.commands, groundswell.kernel.bus.dead_letters
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(main.MODULES)


def commands(stage: Stage) -> Iterator[list[str]]:
    for text in stage.of("RUN"):
        yield from (shlex.split(each) for each in text.split("&&"))


def copies() -> Iterator[tuple[str, str, str]]:
    """(stage, source, target) of every copy out of the context."""
    for stage in STAGES.values():
        for text in stage.of("COPY"):
            *sources, target = text.split()
            if not sources[0].startswith("--from="):
                yield from ((stage.name, source, target) for source in sources)


def pins(file: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    package = ""
    for line in file.read_text().splitlines():
        if matched := re.match(r"([A-Za-z0-9_.-]+==\S+)", line):
            package = matched[1]
            found[package] = set()
        elif matched := re.match(r"\s+--hash=(\S+)", line):
            found[package].add(matched[1])
    return found


def normal(requirement: str) -> str:
    """The name in a requirement, as a lock spells it."""
    matched = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert matched is not None
    return re.sub(r"[-_.]+", "-", matched[0]).lower()


def version(image: str) -> tuple[int, ...]:
    matched = re.search(r":(\d+(?:\.\d+)*)", image)
    assert matched is not None
    return tuple(int(part) for part in matched[1].split("."))


def test_every_engine_in_the_chart_has_a_version() -> None:
    for component, _, pod in render({}).pods():
        image = pod["containers"][0]["image"]
        assert re.search(r":\d+\.\d+(\.\d+)?$", image), (component, image)
        assert not fnmatch(image, "*:latest")
