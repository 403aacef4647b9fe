"""The scenario that locust drives, against a platform that counts and against a door that only says so."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from loadtests.platform.installation import Installation

ROOT = Path(__file__).parents[2]
SHORT = ("--headless", "--peak=50", "--links=5", "--calm-seconds=2", "--spike-seconds=4", "--patience-seconds")


def visited(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/scenarios/visitors.py", "--only-summary", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


class Liar(BaseHTTPRequestHandler):
    """A door that makes links, calls every click counted, and counts none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "links" in asked:
            self._say(200, {"links": [self._link(number) for number, _ in enumerate(asked["links"])]})
        else:
            self._say(201, self._link(99))

    def do_GET(self) -> None:
        if self.path.startswith("/v1/"):
            self._say(200, {"clickCount": "0"})
        else:
            self._say(302, {}, {"Groundswell-View": "counted", "Location": "/nowhere"})

    def _link(self, number: int) -> dict[str, str]:
        return {"name": f"links/{number}", "domain": "demo.localhost", "code": f"code{number}"}

    def _say(self, status: int, told: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def standing(door: type[Liar]) -> Iterator[str]:
    """Where a door of that kind is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), door)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def liar() -> Iterator[str]:
    with standing(Liar) as url:
        yield url


async def test_visitors_of_the_platform_are_counted_as_they_were_promised(home: Path) -> None:
    """Goal: the whole way, by the key and the address that `up` leaves in the home folder."""
    await Installation(home).up("all", 0)
    done = await asyncio.to_thread(visited, *SHORT, "60", f"--home={home}")
    assert "links says what its visitors were promised" in done.stderr, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"make a link +[1-9]", done.stderr), done.stderr


def test_a_door_that_says_counted_and_counts_nothing_is_found_out(liar: str) -> None:
    """The control: every request succeeds, and the scenario fails all the same."""
    done = visited(*SHORT, "1", f"--host={liar}", "--key=any")
    assert "WRONG: link 0: click_count 0, but" in done.stderr, done.stdout + done.stderr
    assert re.search(r"Aggregated +[1-9]\d* +0\(0\.00%\)", done.stderr), done.stderr
    assert done.returncode == 1


def test_without_a_door_there_is_no_visit_and_no_success() -> None:
    done = visited(*SHORT, "1", "--host=http://127.0.0.1:1", "--key=any")
    assert "No links, no visitors" in done.stderr
    assert done.returncode == 1


def test_a_door_that_comes_up_later_is_waited_for_and_asked_for_its_domain() -> None:
    """As in a cluster, which reaches it by the name of its Service. Method: a door that makes no links at first, and keeps the hosts."""
    hosts: set[tuple[str, str]] = set()
    refusals = iter(range(2))

    class Late(Liar):
        def do_POST(self) -> None:
            hosts.add((self.path, self.headers["host"]))
            if next(refusals, None) is None:
                super().do_POST()
            else:
                self.rfile.read(int(self.headers["content-length"]))
                self._say(503, {"code": "UNAVAILABLE"})

        def do_GET(self) -> None:
            hosts.add((self.path.rstrip("0123456789"), self.headers["host"]))
            super().do_GET()

    with standing(Late) as url:
        done = visited(*SHORT, "1", f"--host={url}", "--key=any", "--domain=go.example.com", "--door-seconds=60")
    assert done.stderr.count("The door makes no links yet: POST /v1/links:batchCreate answered 503") == 2
    assert "WRONG: link 0: click_count 0, but" in done.stderr, done.stdout + done.stderr
    api = {(path, "go.example.com") for path in ("/v1/links:batchCreate", "/v1/links", "/v1/links/")}
    assert hosts == {*api, ("/code", "demo.localhost")}, "visitors ask for the link's own host"


def test_a_home_where_nothing_was_started_is_told_with_what_to_do(tmp_path: Path) -> None:
    done = visited("--headless", f"--home={tmp_path}")
    assert f"Nothing was started in {tmp_path}: make up, or give --host and --key." in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
