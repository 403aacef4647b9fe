"""Goal: a start that cannot be is answered with what to do, and leaves nothing behind. Method: real supervisors over tiny programs."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from groundswell.engines import ports
from groundswell.engines.errors import SupervisorError
from groundswell.engines.home import Home
from tests.engines.homes import Platform, wait_for


def test_a_port_in_use_is_answered_with_what_to_do(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", ports.draw(1)[0])) as taken:
        port = taken.getsockname()[1]
        done = platform.up("--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in done.stderr
    advice = re.search(r"groundswell up (--port) (\d+) --home", done.stderr)
    assert advice is not None
    assert platform.up(*advice.groups()).returncode == 0, "what it says to do works"
    assert platform.state().url == f"http://127.0.0.1:{advice[2]}"


def test_a_port_that_another_home_has_is_in_use_also_before_its_door_listens(
    platform: Platform, tmp_path: Path
) -> None:
    """And after, since doors share ports: half of the visitors would be the other platform's. The door of these homes never listens."""
    port = ports.draw(1)[0]
    assert platform.up("--port", str(port)).returncode == 0
    assert ports.free(port)
    other = Platform(tmp_path / "other")
    try:
        done = other.up("--port", str(port))
        assert done.returncode == 1
        assert f"Port {port} of 127.0.0.1 is in use" in done.stderr
        assert platform.run("restart", "gateway").returncode == 0
        os.kill(int(platform.state().supervisor["pid"]), signal.SIGKILL)
        wait_for(lambda: not Home(platform.home).running())
        assert other.up("--port", str(port)).returncode == 0, "a claim ends with its supervisor"
    finally:
        other.run("down")


def test_of_two_homes_that_start_at_once_on_the_same_port_one_is_told_that_it_is_in_use(
    platform: Platform, tmp_path: Path
) -> None:
    port, other = ports.draw(1)[0], Platform(tmp_path / "other")
    try:
        with ThreadPoolExecutor() as threads:
            done = list(threads.map(lambda each: each.up("--port", str(port)), (platform, other)))
        told = [each.stderr for each in done if each.returncode]
        assert len(told) == 1
        assert f"Port {port} of 127.0.0.1 is in use" in told[0]
    finally:
        other.run("down")


def test_a_claim_of_a_port_is_exclusive_and_leaves_no_file_behind(tmp_path: Path) -> None:
    with ports.claimed(8080, tmp_path) as ours:
        assert ours
        with ports.claimed(8080, tmp_path) as theirs, ports.claimed(8081, tmp_path) as another:
            assert (theirs, another) == (False, True)
        with ports.claimed(8080, tmp_path) as still:
            assert not still, "who was refused has taken nothing away"
    assert list(tmp_path.iterdir()) == []
    with ports.claimed(8080, tmp_path) as again:
        assert again


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_what_is_no_port_is_answered_with_what_is_one(platform: Platform, port: str) -> None:
    done = platform.up(f"--port={port}")
    assert done.returncode == 2
    assert "a number from 1 to 65535, or 0 for a free one" in done.stderr


def test_a_full_disk_is_answered_with_what_is_missing_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    full = Home(tmp_path / "home", free_bytes=lambda _: 5 << 20)
    with pytest.raises(SupervisorError, match="is full: 5 MiB are free, 1024 MiB are needed"):
        full.open()
    assert list(full.path.iterdir()) == []
    Home(full.path).open()
    assert (full.path / "version").exists()


def test_a_first_start_without_network_says_that_it_needs_one_or_a_broker_of_ones_own(
    platform: Platform, tmp_path: Path
) -> None:
    """Method: the product's own topology, a user who has fetched nothing yet, and a proxy where nobody listens."""
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:1")
    user = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "groundswell", "up", f"--home={platform.home}", "--port=0"]
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment | nowhere | user
    )
    assert done.returncode == 1
    assert "could not be downloaded" in done.stderr
    assert "The first start needs the network, or a Kafka of your own: set KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    assert "Nothing runs" in platform.run("ps").stderr


def test_the_home_of_a_newer_version_is_refused(platform: Platform) -> None:
    platform.home.mkdir()
    (platform.home / "version").write_text("99\n")
    done = platform.up()
    assert done.returncode == 1
    assert "newer Groundswell" in done.stderr
    assert sorted(each.name for each in platform.home.iterdir()) == ["version"]


def test_a_process_that_cannot_start_ends_the_start_with_its_last_words(platform: Platform) -> None:
    done = platform.up(topology="broken")
    assert done.returncode == 1
    assert "this program cannot start" in done.stderr
    assert "Nothing runs" in platform.run("ps").stderr


def test_an_unknown_topology_is_answered_with_the_known_ones(platform: Platform) -> None:
    done = platform.up(topology="some")
    assert done.returncode == 1
    assert "all, each, broken" in done.stderr
