"""The commands that the README and the pages show exist, and those of the README work on the platform that it starts."""

import ast
import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from groundswell.engines import ports

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def shown(pattern: str) -> list[tuple[str, str]]:
    """(page, match) for each place in the pages."""
    return [(page.name, found) for page in PAGES for found in re.findall(pattern, page.read_text())]


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {(page, name) for page, name in shown(r"(?:`|^|\n)make ([a-z-]+)") if name not in targets}
    assert not unknown


def test_every_file_that_a_page_links_to_exists() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert not [(page.name, link) for page, link in links if not (page.parent / link).exists()]


def test_every_command_of_groundswell_that_a_page_names_exists() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "groundswell", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not [each for each in shown(r"`(?:\.venv/bin/)?groundswell ([a-z]+)") if each[1] not in helped]


README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, re.DOTALL)
ELSEWHERE = {
    "make test": ("tests/docs/test_commands.py", ["def test_"]),
    "make demo": ("tests/system/test_placements.py", ['"loadtests"', '"demo"']),
    'make up ARGS="--topology each"': ("tests/system/test_outages.py", ['.up("each"']),
    "make drill NAME=event-kill": ("tests/system/test_drills.py", ['"loadtests"', '"drill"', '"event-kill"']),
    "make drill NAME=event-kill CONTROL=journal-off": (
        "tests/system/test_drills.py",
        ['"loadtests"', '"drill"', '"event-kill"', '"--control"', '"journal-off"'],
    ),
}
"""Commands of the README that need more than the platform that it starts: the tests that run them, and the words by which they do."""


def commands() -> list[str]:
    """What the README has its reader run on that platform, in its order: lines of its blocks, and whole cells of its table."""
    lines = [line.partition("#")[0].strip() for block in BLOCKS if "curl" not in block for line in block.splitlines()]
    cells = re.findall(r"^\|[^|]+\| `([^`]+)` \|$", README, re.MULTILINE)
    return [each for each in (*lines, *cells) if each and each not in ELSEWHERE]


@dataclass(frozen=True)
class Reader:
    """Somebody who does what the README says, in a folder of their own."""

    folder: Path

    def run(self, command: str) -> str:
        """Runs a command; returns what it prints. Of a make target only the recipe: this tree is installed already."""
        if command.startswith("make "):
            command = _recipe(command)
        command = command.replace(".venv/bin/groundswell", f"{shlex.quote(sys.executable)} -m groundswell")
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / ".groundswell" / "credentials.json").read_text())
        return found


def _recipe(command: str) -> str:
    environment = {
        name: os.environ[name] for name in ("HOME", "PATH")
    }  # not what the make of these tests was called with
    installed = [word for target in ("setup", "console", ".venv/installed") for word in ("-o", target)]
    dry = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), *installed, *shlex.split(command)[1:]]
    return subprocess.run(dry, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """The README's platform, started and stopped as it says, on a free port."""
    made = Reader(Path(tempfile.mkdtemp(prefix="groundswell-docs-")))
    try:
        made.run("make up ARGS='--port 0'")
        yield made
    finally:
        made.run("make down")
        shutil.rmtree(made.folder, ignore_errors=True)


def test_every_command_of_the_readme_works_on_the_platform_that_it_starts(reader: Reader) -> None:
    """Method: all of them in their order, but for the start and the end, which are the fixture's, and the ports."""
    assert {"make up", "make down"} < set(commands())
    port = ports.draw(1)[0]
    said = {
        each: reader.run(each.replace(":9090", f":{port}"))
        for each in commands()
        if each not in ("make up", "make down")
    }
    assert "gateway" in said["make ps"]
    assert said["make logs NAME=gateway"]
    (restarted,) = (each for each in said if "restart gateway --set GATEWAY_ADDRESS=" in each)
    assert "all is ready" in said[restarted]
    assert f"127.0.0.1:{port}" in reader.run("make ps")
    assert reader.credentials()["url"].endswith(f":{port}")
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    door = httpx.URL(reader.credentials()["url"])
    reader.run(f".venv/bin/groundswell restart gateway --set GATEWAY_ADDRESS={door.host}:{door.port}")


@pytest.mark.parametrize("command", ELSEWHERE)
def test_a_command_of_the_readme_that_is_run_elsewhere_is_run_there(command: str) -> None:
    """Method: its words are in the functions of that file, as arguments of what they start."""
    file, words = ELSEWHERE[command]
    tree = ast.parse((ROOT / file).read_text())
    tests = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert any(each.name.startswith("test_") for each in tests)
    assert command in README
    code = "\n".join(ast.unparse(each) for each in tests).replace("'", '"')
    assert [each for each in words if each not in code] == []


def test_the_readmes_reader_gets_a_short_link_and_sees_its_click(reader: Reader) -> None:
    """Method: the README's own shell block, on a platform at another port; then what it says of the answer."""
    (block,) = (each for each in BLOCKS if "curl" in each)
    url = httpx.URL(reader.credentials()["url"])
    link = json.loads(reader.run(block.replace("localhost:8080", f"{url.host}:{url.port}")))
    key = reader.credentials()["api_key"]
    with httpx.Client(base_url=url, trust_env=False) as client:
        visit = client.get(f"/{link['code']}", headers={"Host": link["domain"]})
        assert (visit.status_code, visit.headers["location"]) == (302, "https://example.com/a/long/address")
        assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
        headers = {"Authorization": f"Bearer {key}"}
        for _ in range(200):
            if client.get(f"/v1/{link['name']}", headers=headers).json().get("clickCount") == "1":
                return
            asyncio.run(asyncio.sleep(0.1))
    pytest.fail("the click was not counted within 20 seconds")
