"""The commands that the README and the pages show exist, and what the README has its reader do works on a real platform."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.platform.installation import Installation

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def shown(pattern: str) -> list[tuple[str, str]]:
    """(page, match) for each place in the pages."""
    return [(page.name, found) for page in PAGES for found in re.findall(pattern, page.read_text())]


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {(page, name) for page, name in shown(r"(?:`|^|\n)make ([a-z]+)") if name not in targets}
    assert not unknown


def test_every_file_that_a_page_links_to_exists() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert not [(page.name, link) for page, link in links if not (page.parent / link).exists()]


def test_every_command_of_groundswell_that_a_page_names_exists() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "groundswell", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not [each for each in shown(r"`(?:\.venv/bin/)?groundswell ([a-z]+)") if each[1] not in helped]


@pytest.fixture
def running() -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="groundswell-docs-"))
    installation = Installation(folder / ".groundswell")
    asyncio.run(installation.up("all", port=0))
    yield installation
    asyncio.run(installation.down())
    shutil.rmtree(folder, ignore_errors=True)


def test_the_readmes_reader_gets_a_short_link_and_sees_its_click(running: Installation) -> None:
    """Method: the README's own shell block, on a platform at another port; then what it says of the answer."""
    (block,) = (
        each for each in re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "curl" in each
    )
    url = httpx.URL(running.credentials().url)
    block = block.replace("localhost:8080", f"{url.host}:{url.port}")
    done = subprocess.run(["bash", "-c", block], cwd=running.home.parent, capture_output=True, text=True, check=True)
    link = json.loads(done.stdout)
    key = json.loads((running.home / "credentials.json").read_text())["api_key"]
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
