"""The images: their instructions and locks, the platform's wheel, and what a container can start, as built by `dockerfile.build`.

The steps that need a builder and base images are in docs/deploy.md's list of what is not proven.
"""

import json
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from charts import releasing
from groundswell import main
from groundswell.engines import topology
from tests.cluster.chart import ROOT, Rendered, render, visitors
from tests.cluster.dockerfile import STAGES, Image, copies, made_for

VERSION = re.compile(r":\d+\.\d+\.\d+\S*$|@sha256:[0-9a-f]{64}$")
FETCHES = ("curl", "wget", "apt-get", "apk", "git")


def test_the_stages_are_there_and_each_base_has_a_version() -> None:
    assert list(STAGES) == ["console", "packages", "loadtests", "runtime"]
    for stage in STAGES.values():
        assert VERSION.search(stage.base), stage.base
    assert STAGES["packages"].base == STAGES["runtime"].base, "an environment belongs to its interpreter"


def test_a_build_without_a_target_makes_the_platform_and_neither_image_is_made_of_the_other() -> None:
    """A builder makes the last stage, and what that copies from."""
    last = [*STAGES][-1]
    assert [stage.name for stage in made_for(last)] == ["console", "packages", "runtime"]
    assert not STAGES[last].of("RUN"), "it is copied together"
    assert [stage.name for stage in made_for("loadtests")] == ["loadtests"]


def test_the_bases_are_of_versions_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = version(STAGES["runtime"].base)
    assert version(STAGES["loadtests"].base) == python
    assert project["requires-python"] == ">=3.11"
    assert python[:2] == (3, 11), "the locks are resolved from 3.11 on, and the tests run with it"
    least = json.loads((ROOT / "console" / "package.json").read_text())["engines"]["node"]
    assert version(STAGES["console"].base) >= tuple(int(part) for part in least.removeprefix(">=").split("."))


def test_nothing_is_fetched_but_locked_packages() -> None:
    for stage in STAGES.values():
        assert {name for name, _ in stage.steps} <= {"COPY", "RUN", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}
        for command in stage.commands():
            assert command[0] not in FETCHES
            if command[0].endswith(("pip", "uv")) and "install" in command:
                assert "--no-index" in command or {"--require-hashes", "--only-binary"} <= set(command), command
            if command[0] == "npm":
                assert command[1] in {"ci", "run"}


@pytest.mark.parametrize(("target", "chart"), [("runtime", render), ("loadtests", visitors)])
def test_the_process_runs_as_a_numbered_user_that_its_chart_names_too(
    target: str, chart: Callable[[Mapping[str, Any]], Rendered]
) -> None:
    stage = STAGES[target]
    (user,) = stage.of("USER")
    number, group = user.split(":")
    assert int(number) == int(group) > 0
    last_copy = max(number for number, (name, _) in enumerate(stage.steps) if name == "COPY")
    assert "RUN" not in {name for name, _ in stage.steps[last_copy:]}, "nothing is changed as root after the copies"
    ours = [pod for _, _, pod in chart({}).pods() if pod["containers"][0]["image"].startswith("groundswell")]
    assert ours
    assert {pod["securityContext"]["runAsUser"] for pod in ours} == {int(number)}


def test_the_image_starts_the_command_line_and_knows_its_console() -> None:
    runtime = STAGES["runtime"]
    assert json.loads(runtime.of("ENTRYPOINT")[0]) == ["groundswell"]
    environment = runtime.environment()
    (copied,) = [text.split() for text in runtime.of("COPY") if "--from=console" in text]
    assert environment["GATEWAY_CONSOLE"] == copied[-1]
    assert copied[-2] == f"{STAGES['console'].of('WORKDIR')[0]}/dist"
    for component, _, pod in render({}).pods():
        (container,) = pod["containers"]
        if container["image"].startswith("groundswell:") and component != "test":
            operator = container.get("command", [])[:3] == ["python", "-m", "groundswell_operator"]
            assert operator or "command" not in container, component


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
    for built in ("console/dist", "console/node_modules", "loadtests/runs", "**/__pycache__"):
        assert built in kept_out


@pytest.fixture(scope="module")
def wheel(image: Image) -> zipfile.ZipFile:
    (made,) = (image.root / "wheels").glob("*.whl")
    return zipfile.ZipFile(made)


def test_the_wheel_holds_what_prepare_and_run_read_besides_code(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    placement = topology.load("all")
    assert placement.topics is not None
    topics = {f"groundswell/topics/{each.name}" for each in placement.topics.glob("*.yaml")}
    package = ROOT / "services" / "groundswell"
    migrations = {f"groundswell/{each.relative_to(package)}" for each in package.rglob("migrations/*.sql")}
    assert topics | migrations | {"groundswell/engines/topology.yaml", "groundswell/gateway/crawlers.txt"} <= names
    assert {Path(each).name for each in topics} == {each.name for each in (ROOT / "protos" / "topics").glob("*.yaml")}
    assert len(migrations) >= 5
    described = wheel.read("groundswell/engines/topology.yaml").decode()
    (told,) = re.findall(r"^topics: (\S+)", described, re.MULTILINE)
    assert told == "../topics", "as seen from groundswell/engines"
    assert "groundswell_operator/crds/viralspikes.yaml" in names
    packages = {"groundswell", "groundswell_operator", f"groundswell-{releasing.version()}.dist-info"}
    assert {name.partition("/")[0] for name in names} == packages


def test_the_image_holds_the_projects_own_packages_and_no_extra(locked: dict[str, dict[str, set[str]]]) -> None:
    """Each pin of an image is the one that the tests run with, to the hash."""
    whole, image, build, loadtests = (
        locked[f"requirements.{name}lock"] for name in ("", "image.", "build.", "loadtests.")
    )
    for part in (image, build, loadtests):
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
    assert "locust" in {package.partition("==")[0] for package in loadtests}


@pytest.fixture(scope="module")
def locked() -> dict[str, dict[str, set[str]]]:
    """Lock file → `name==version` → hashes."""
    return {file.name: pins(file) for file in ROOT.glob("requirements*.lock")}


def test_no_lock_names_a_place_to_fetch_from(locked: dict[str, dict[str, set[str]]]) -> None:
    assert len(locked) == 4
    for name in locked:
        assert "://" not in (ROOT / name).read_text(), name
        assert all(locked[name].values()), f"{name}: a package without a hash"


def test_the_image_has_what_is_locked_for_it_and_every_module_and_command_loads_from_it(image: Image) -> None:
    """Method: the interpreter of the image, which has no package but the image's."""
    program = f"""
import importlib.metadata, re, sys
spelled = lambda name: re.sub(r"[-_.]+", "-", name).lower()
have = {{f"{{spelled(each.name)}}=={{each.version}}" for each in importlib.metadata.distributions()}}
locked = set({[*pins(ROOT / "requirements.image.lock")]!r})
assert {{"groundswell=={releasing.version()}"}} == have - locked, have - locked
missing = {{each.partition("==")[0] for each in locked - have}}
from groundswell import main
assert main.__file__.startswith({str(image.root)!r}), main.__file__
for factory in main.MODULES:
    main._factory(factory)
import groundswell.engines.preparing, groundswell.engines.commands, groundswell.kernel.bus.dead_letters
import groundswell_operator.laptop.command, groundswell_operator.rehearsing.command
from groundswell_operator.__main__ import PROCESSES
for module, _ in PROCESSES.values():
    importlib.import_module(module)
print(*sorted(missing))
"""
    python = str(image.root / "venv" / "bin" / "python")
    done = subprocess.run(
        [python, "-c", program], cwd=image.workdir, env=image.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    whole = (ROOT / "requirements.image.lock").read_text()
    for package in done.stdout.split():
        assert re.search(rf"^{package}==\S+ ;", whole, re.MULTILINE), f"{package} is for every platform"
    assert set(main.MODULES)


def test_a_container_says_what_it_can_do_and_fails_with_a_sentence(image: Image) -> None:
    environment = image.environment()
    helped = subprocess.run(image.command("--help"), env=environment, capture_output=True, text=True, check=True)
    assert {"run", "prepare", "dlq"} <= set(re.findall(r"\w+", helped.stdout))
    wrong = subprocess.run(image.command("run", "all"), env=environment, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "GROUNDSWELL_INTERNAL_KEY" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
    python = str(image.root / "venv" / "bin" / "python")
    operator = [python, "-m", "groundswell_operator", "run"]
    lost = subprocess.run(operator, env=environment, capture_output=True, text=True, check=False)
    assert (lost.returncode, len(lost.stderr.strip().splitlines())) == (2, 1)
    assert "GROUNDSWELL_NAMESPACE" in lost.stderr


def test_the_image_of_the_load_tests_has_what_is_locked_for_it_and_nothing_of_the_platform(
    loadtests_image: Image,
) -> None:
    """That its visitors come to an install's door is test_environment.py's matter."""
    program = "import importlib.metadata as m; print(*(f'{each.name}=={each.version}' for each in m.distributions()))"
    python = str(loadtests_image.root / "venv" / "bin" / "python")
    said = subprocess.run(
        [python, "-c", program], env=loadtests_image.environment(), capture_output=True, text=True, check=True
    ).stdout
    have = {f"{normal(each)}=={each.partition('==')[2]}" for each in said.split()}
    assert have
    assert have <= {*pins(ROOT / "requirements.loadtests.lock")}
    assert {each.name for each in loadtests_image.workdir.iterdir()} == {"loadtests", "requirements.loadtests.lock"}
    assert not (loadtests_image.workdir / "loadtests" / "runs").exists()


def test_the_console_is_in_the_image_as_the_door_serves_it(image: Image) -> None:
    console = Path(image.environment()["GATEWAY_CONSOLE"])
    assert (console / "index.html").read_text().startswith("<!doctype html>")
    assert list(console.rglob("*.js"))


def test_every_engine_in_the_chart_has_a_version() -> None:
    for component, _, pod in render({}).pods():
        image = pod["containers"][0]["image"]
        assert re.search(r":\d+\.\d+(\.\d+)?$", image), (component, image)
        assert not fnmatch(image, "*:latest")


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
