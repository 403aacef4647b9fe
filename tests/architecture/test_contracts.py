"""Every import contract fails on a deliberate violation, so none of them is decoration.

The sources are copied, one bad line is added, and the linter must name the contract that it breaks.
"""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(
    folder.name
    for folder in (ROOT / "services" / "groundswell").iterdir()
    if (folder / "service.py").exists() or (folder / "service").is_dir()
)

VIOLATIONS = [
    ("Services meet only in main", "services/groundswell/tenancy/service.py", "import groundswell.links.model"),
    (
        "Every service has the same anatomy",
        "services/groundswell/identity/model.py",
        "import groundswell.identity.store",
    ),
    (
        "Every service has the same anatomy",
        "services/groundswell/identity/extras.py",
        '"""A file that the anatomy does not know."""',
    ),
    (
        "The kernel knows no service and no engine",
        "services/groundswell/kernel/clock.py",
        "import groundswell.links.model",
    ),
    ("Only stores and the kernel touch drivers", "services/groundswell/tenancy/service.py", "import asyncpg"),
    ("Use cases and rules know nothing of transport", "services/groundswell/tenancy/service.py", "import grpc"),
    (
        "Services know no engine",
        "services/groundswell/tenancy/module.py",
        "import groundswell.engines.ports",
    ),
    ("Engines know no service", "services/groundswell/engines/ports.py", "import groundswell.links.model"),
    ("Load tests see the platform from outside", "loadtests/__init__.py", "import groundswell.kernel.ids"),
    (
        "The operator knows no service",
        "operators/groundswell_operator/planning/raising.py",
        "import groundswell.kernel.ids",
    ),
    (
        "Plans are made of policies",
        "operators/groundswell_operator/policies.py",
        "import groundswell_operator.planning.raising",
    ),
    (
        "Plans are made of policies",
        "operators/groundswell_operator/saga/deciding.py",
        "import groundswell_operator.applying.reading",
    ),
]


def contracts() -> list[str]:
    """The names of all contracts."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    return [config[each]["name"] for each in config.sections() if each.startswith("importlinter:contract:")]


def copied(folder: Path) -> Path:
    """The sources and the contracts in `folder`, to be changed there."""
    for source in ("services/groundswell", "operators", "loadtests"):
        shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    shutil.copy(ROOT / ".importlinter", folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources and the contracts, to be spoiled."""
    return copied(tmp_path)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The linter over the copy, with the copy's own packages before the installed ones."""
    program = "import sys; sys.path[:0] = ['.', 'services', 'operators']; from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program]
    return subprocess.run([*command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_sources_as_they_are_keep_every_contract(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS)
def test_a_violation_breaks_its_contract(copy: Path, contract: str, file: str, line: str) -> None:
    target = copy / file
    target.write_text((target.read_text() if target.exists() else "") + f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout


def test_every_contract_has_a_violation_and_every_violation_a_contract() -> None:
    named = {name: [each for each in contracts() if each.startswith(name)] for name, *_ in VIOLATIONS}
    assert sorted(contracts()) == sorted(found for [found] in named.values())


def test_every_service_is_under_the_contracts() -> None:
    text = (ROOT / ".importlinter").read_text()
    for service in SERVICES:
        assert text.count(f"    groundswell.{service}\n") >= 3, f"add {service} to the contracts in .importlinter"
