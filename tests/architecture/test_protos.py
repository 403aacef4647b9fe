"""The check of the protos finds what would break a client of the last release. Method: a copy of them is spoiled, and checked."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from charts import releasing

ROOT = Path(__file__).parents[2]
LINTER = ROOT / "protos" / "node_modules"
LINKS = Path("groundswell", "api", "links", "v1", "links.proto")

needs_linter = pytest.mark.skipif(
    not LINTER.exists(), reason="the linter of the protos is not here: run `make protos/node_modules`"
)


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """The protos, to be spoiled, without the history of the project."""
    copy = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if LINTER.exists():
        (copy / LINTER.name).symlink_to(LINTER)
    return copy


def run(protos: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A script of the copy, with the Node that comes as a wheel."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, str(protos / script)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@needs_linter
def test_the_protos_as_they_are_break_no_client_of_the_last_release(protos: Path) -> None:
    done = run(protos, "check.py")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_linter
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  optional string title = 12;\n", "", 'field "12" with name "title"'),
        ("optional string title = 12;", "optional string heading = 12;", 'Field "12"'),
        ("optional int64 max_visits = 8;", "optional int32 max_visits = 8;", 'Field "8" with name "max_visits"'),
    ],
    ids=["removed", "renamed", "of another type"],
)
def test_a_field_of_the_last_release_that_is_removed_renamed_or_of_another_type_fails_the_check(
    protos: Path, old: str, new: str, told: str
) -> None:
    edit(protos / LINKS, old, new)
    done = run(protos, "check.py")
    assert done.returncode == 1
    assert told in done.stdout + done.stderr


@needs_linter
def test_a_name_that_the_rules_do_not_have_fails_the_check(protos: Path) -> None:
    edit(protos / LINKS, "message DeniedHost {\n", "message DeniedHost {\n  string badNote = 99;\n")
    done = run(protos, "check.py")
    assert done.returncode == 1
    assert 'Field name "badNote" should be lower_snake_case' in done.stdout + done.stderr


@needs_linter
def test_what_was_not_released_yet_may_go_and_what_was_released_may_not(protos: Path) -> None:
    """Goal: the newest image is what counts, whatever else is kept."""
    field = "string note = 99;"
    edit(protos / LINKS, "message DeniedHost {\n", f"message DeniedHost {{\n  {field}\n")
    edit(protos.parent / "pyproject.toml", f'version = "{_version()}"', 'version = "0.10.0"')
    assert run(protos, "check.py").returncode == 0
    assert run(protos, "releasing.py").returncode == 0
    edit(protos / LINKS, f"  {field}\n", "")
    assert run(protos, "check.py").returncode == 1


def test_a_release_is_kept_once(protos: Path) -> None:
    for kept in (protos / "releases").iterdir():
        kept.unlink()
    assert run(protos, "releasing.py").returncode == 0
    (kept,) = (protos / "releases").iterdir()
    before = kept.read_bytes()
    edit(protos / LINKS, "string title = 12;", "string heading = 12;")
    again = run(protos, "releasing.py")
    assert again.returncode == 1
    assert "raise the version" in again.stderr
    assert kept.read_bytes() == before


def test_every_version_whose_chart_is_kept_has_its_protos_kept() -> None:
    kept = {file.stem.removeprefix("groundswell-") for file in (ROOT / "protos" / "releases").iterdir()}
    assert kept == set(releasing.released())


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
