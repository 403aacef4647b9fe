"""Goal: a process has as many replicas as were asked for last, within what it bears. Method: real supervisors over tiny programs."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines.homes import Platform, gone, wait_for

SCALED = Path(__file__).with_name("topology_scaled.yaml")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One that runs, for the tests that leave nothing scaled."""
    made = Platform(tmp_path_factory.mktemp("scaled") / "home", SCALED)
    done = made.up()
    assert done.returncode == 0, done.stderr
    yield made
    made.run("down")


@pytest.fixture
def running(shared: Platform) -> Iterator[Platform]:
    """That one, with one replica of each process before and after."""
    yield shared
    assert shared.run("start", "links").returncode == 0
    assert shared.run("scale", "links", "1").returncode == 0


class _Connection(http.client.HTTPConnection):
    def __init__(self, home: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._home = home

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._home / "supervisor.sock"))


def asked(platform: Platform, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    """Status and answer of the control socket."""
    connection = _Connection(platform.home)
    try:
        text = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request(method, path, text)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def began_s(pid: int) -> float:
    """When a process began, by the wall clock: what psutil says counts from a boot of which the second is known, but no part of it."""
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def names(platform: Platform) -> list[str]:
    return [each.name for each in platform.state().processes if each.name.startswith("links")]


def test_each_replica_is_shown_with_how_many_there_are_to_be(running: Platform) -> None:
    assert running.run("scale", "links", "3").stdout.splitlines()[-1] == "links has 3 of 3 replicas ready"
    found = running.state()
    assert names(running) == ["links", "links-2", "links-3"]
    assert (found.replicas["links"].desired, found.replicas["links"].ready, found.replicas["links"].by) == (
        3,
        3,
        "user",
    )
    assert len({running.process(name).data for name in names(running)}) == 3, "each has a folder of its own"
    shown = running.run("ps")
    assert shown.returncode == 0
    assert [line.split()[:3] for line in shown.stdout.splitlines() if line.startswith("links ")] == [
        ["links", "ready", "3/3"]
    ]
    told = running.settings("links-3")
    assert (told["GROUNDSWELL_PROCESS"], told["GROUNDSWELL_INSTANCE"]) == ("links", "links-3")
    assert running.run("logs", "links-3").stdout.startswith("modules: links\n")


def test_callers_know_the_addresses_of_all_replicas_before_there_are_any(running: Platform) -> None:
    """So nobody is started anew for a scaling, nor is an address news."""
    before = running.settings("gateway")["GROUNDSWELL_ENDPOINTS"]
    endpoints = dict(part.split("=") for part in before.split(","))
    assert running.run("scale", "links", "4").returncode == 0
    assert endpoints["links"].split() == [running.process(name).addresses["rpc"] for name in names(running)]
    assert endpoints["live"] == running.process("live").addresses["rpc"]


def test_a_scaling_down_takes_the_highest_and_leaves_no_process(running: Platform) -> None:
    assert running.run("scale", "links", "3").returncode == 0
    pids = {name: running.pid(name) for name in names(running)}
    assert running.run("scale", "links", "1").returncode == 0
    assert names(running) == ["links"]
    assert running.pid("links") == pids["links"]
    assert gone(pids["links-2"])
    assert gone(pids["links-3"])


@pytest.mark.parametrize(
    ("name", "replicas", "said"),
    [
        ("live", "2", "live cannot have more than 1 replica: a second live would take a part of what the first one has to see whole."),
        ("writer", "2", "writer cannot have more than 1 replica: the log gives it its partitions by its name"),
        ("collector", "2", "collector cannot have more than 1 replica: rows in the journal of a replica that is taken away"),
        ("gateway", "2", "gateway cannot have more than 1 replica: the public port is bound by one process."),
        ("nameless", "2", "nameless cannot have more than 1 replica: the topology does not say what nameless keeps."),
        ("links", "5", "links cannot have more than 4 replicas on one machine"),
        ("links", "0", "links has 1 replica at least"),
        ("objects", "2", "objects is an engine, or one replica; processes can be scaled: links,"),
        ("linsk", "2", "Did you mean links?"),
    ],
)  # fmt: skip
def test_what_may_not_be_multiplied_is_refused_with_the_reason(
    running: Platform, name: str, replicas: str, said: str
) -> None:
    done = running.run("scale", name, replicas)
    assert done.returncode == 1
    assert said in done.stderr
    assert {each.desired for each in running.state().replicas.values()} == {1}


def test_a_module_is_not_multiplied_together_with_one_that_may_not_be(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home", SCALED)
    try:
        assert platform.up(topology="all").returncode == 0
        done = platform.run("scale", "links", "2")
        assert done.returncode == 1
        assert "links runs inside the process all here" in done.stdout
        assert "all cannot have more than 1 replica: live runs in it, and a second live" in done.stderr
    finally:
        platform.run("down")


def test_a_replica_that_crashes_is_started_again_at_its_address(running: Platform) -> None:
    assert running.run("scale", "links", "2").returncode == 0
    first, before = running.pid("links"), running.process("links-2")
    os.kill(running.pid("links-2"), signal.SIGKILL)
    wait_for(lambda: running.process("links-2").restarts == before.restarts + 1)
    wait_for(lambda: running.state().replicas["links"].ready == 2)
    assert running.process("links-2").addresses == before.addresses
    assert running.pid("links") == first


def test_a_restart_replaces_one_replica_after_the_other_and_keeps_their_number(running: Platform) -> None:
    """Method: each tells when it began; the second may not before the first was ready again."""
    assert running.run("scale", "links", "2").returncode == 0
    pids = [running.pid(name) for name in names(running)]
    assert running.run("restart", "links", "--set", "A=b").returncode == 0
    assert names(running) == ["links", "links-2"]
    assert not set(pids) & {running.pid(name) for name in names(running)}
    assert running.process("links").since <= began_s(running.pid("links-2")) + 0.02, "clock ticks"
    assert running.run("scale", "links", "3").returncode == 0
    assert [running.settings(name)["A"] for name in names(running)] == ["b"] * 3, "a later one has them as well"
    only = running.pid("links-2")
    assert running.run("restart", "links-2").returncode == 0
    assert running.pid("links-2") != only


def test_what_is_stopped_and_started_has_as_many_replicas_as_before(running: Platform) -> None:
    assert running.run("scale", "links", "2").returncode == 0
    pids = [running.pid(name) for name in names(running)]
    assert running.run("stop", "links").returncode == 0
    assert all(gone(pid) for pid in pids)
    assert running.run("scale", "links", "3").stdout.splitlines()[-1] == "links has 0 of 3 replicas ready"
    assert running.run("start", "links").returncode == 0
    assert running.state().replicas["links"].ready == 3


def test_a_start_after_a_stop_starts_what_does_not_run_and_leaves_alone_what_does(running: Platform) -> None:
    assert running.run("scale", "links", "2").returncode == 0
    assert running.run("stop", "links").returncode == 0
    assert running.run("start", "links-2").returncode == 0
    second = running.pid("links-2")
    assert "links runs already" in running.run("start", "links", "--set", "A=c").stderr
    assert running.run("start", "links").returncode == 0
    assert running.state().replicas["links"].ready == 2
    assert running.pid("links-2") == second


def test_down_ends_all_replicas_and_the_next_up_begins_with_one(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home", SCALED)
    try:
        assert platform.up().returncode == 0
        version = platform.state().replicas["links"].version
        assert platform.run("scale", "links", "3").returncode == 0
        addresses = platform.process("links-3").addresses
        pids = platform.pids()
        assert platform.run("down").returncode == 0
        assert all(gone(pid) for pid in pids)
        assert platform.up().returncode == 0
        assert names(platform) == ["links"]
        assert platform.state().replicas["links"].version > version + 1, "nobody mistakes it for what they have seen"
        assert platform.run("scale", "links", "3").returncode == 0
        assert platform.process("links-3").addresses == addresses
    finally:
        platform.run("down")


def test_a_program_asks_by_http_and_is_told_what_is_wanted_and_ready(running: Platform) -> None:
    status, before = asked(running, "GET", "/processes/links")
    assert (status, before["desired"], before["most"]) == (200, 1, 4)
    wanted = {"replicas": 2, "by": "somebody", "version": before["version"]}
    status, then = asked(running, "PUT", "/processes/links", wanted)
    assert (status, then["desired"], then["by"], then["version"]) == (200, 2, "somebody", before["version"] + 1)
    wait_for(lambda: asked(running, "GET", "/processes/links")[1]["ready"] == 2)
    status, every = asked(running, "GET", "/processes")
    assert [each["name"] for each in every["processes"]] == list(running.state().replicas)


def test_a_number_that_was_decided_on_an_old_one_is_refused(running: Platform) -> None:
    seen = asked(running, "GET", "/processes/links")[1]["version"]
    assert running.run("scale", "links", "3").returncode == 0
    status, said = asked(running, "PUT", "/processes/links", {"replicas": 1, "version": seen})
    assert (status, said["error"]) == (409, "links was scaled by somebody else meanwhile: look again.")
    assert running.state().replicas["links"].desired == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/processes/links", {"replicas": 5}, 422),
        ("PUT", "/processes/live", {"replicas": 2}, 422),
        ("PUT", "/processes/nobody", {"replicas": 1}, 404),
        ("GET", "/processes/nobody", None, 404),
        ("GET", "/", None, 404),
        ("DELETE", "/processes/links", None, 405),
        ("PUT", "/processes", {"replicas": 1}, 405),
        ("PUT", "/processes/links", {"replicas": "2"}, 400),
        ("PUT", "/processes/links", {"replicas": True}, 400),
        ("PUT", "/processes/links", {"replicas": 10**9}, 400),
        ("PUT", "/processes/links", {"replicas": 2, "count": 1}, 400),
        ("PUT", "/processes/links", {"replicas": 2, "by": "x" * 65}, 400),
        ("PUT", "/processes/links", [2], 400),
        ("PUT", "/processes/links", b"{", 400),
    ],
)
def test_what_cannot_be_done_is_answered_with_a_status_and_a_sentence(
    running: Platform, method: str, path: str, body: object, status: int
) -> None:
    found, said = asked(running, method, path, body)
    assert found == status, said
    assert said["error"].endswith(".") or said["error"].endswith("like.")
    assert running.state().replicas["links"].desired == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"hello\n", b"400"),
        (b"PUT /processes/links HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"PUT /processes/links HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", b"413"),
        (b"PUT /processes/links HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"413"),
        (b"GET /processes HTTP/1.1\r\n" + b"A: b\r\n" * 65, b"400"),
    ],
)
def test_who_speaks_neither_language_or_too_long_is_told_so(running: Platform, line: bytes, status: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(10)
        talk.connect(str(running.home / "supervisor.sock"))
        talk.sendall(line)
        assert talk.recv(1024).startswith(b"HTTP/1.1 " + status)
    assert running.run("ps").returncode == 0
