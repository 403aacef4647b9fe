"""Goal: a user's platform starts, stays up, and leaves nothing behind, whatever is killed. Method: real supervisors over tiny programs.

The topology beside this file places two small programs and two quick engines; everything else is the product's own command line.
"""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from groundswell.engines import children, ports, topics
from groundswell.engines.topology import load
from tests.engines.homes import TOPOLOGY, WAIT_S_MAX, Platform, environment, gone, wait_for

WITH_ENGINE = Path(__file__).with_name("topology_with_engine.yaml")
TOPICS = Path(__file__).parents[2] / "protos" / "topics"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One that runs, for the tests that leave it as they found it."""
    made = Platform(tmp_path_factory.mktemp("shared") / "home")
    done = made.up()
    assert done.returncode == 0, done.stderr
    yield made
    made.run("down")


@pytest.fixture
def running(platform: Platform) -> Platform:
    """The same, started."""
    done = platform.up()
    assert done.returncode == 0, done.stderr
    return platform


def test_up_waits_until_everything_is_ready_and_says_where_it_is(platform: Platform) -> None:
    done = platform.up()
    assert done.returncode == 0, done.stderr
    assert platform.state().url in done.stdout
    assert "groundswell down" in done.stdout
    assert str(platform.home / "credentials.json") in done.stdout
    assert [each.state for each in platform.state().processes] == ["ready"] * 3


def test_the_key_is_readable_by_its_owner_alone(shared: Platform) -> None:
    file = shared.home / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((shared.home / "secrets.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((shared.home / "supervisor.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((shared.home / "state.json").stat().st_mode) == 0o600, "it tells what `restart --set` was given"
    written = json.loads(file.read_text())
    assert written["url"] == shared.state().url
    assert written["tenant"] == "tenants/2"
    _, id_, secret = written["api_key"].split("_")
    assert (id_, len(secret)) == ("2", 43)


def test_a_process_is_told_who_it_is_and_where_the_others_are(shared: Platform) -> None:
    told = shared.settings("links")
    assert told["GROUNDSWELL_PROCESS"] == "links"
    assert told["GROUNDSWELL_RPC_ADDRESS"] == shared.process("links").addresses["rpc"]
    endpoints = dict(part.split("=") for part in told["GROUNDSWELL_ENDPOINTS"].split(","))
    assert endpoints == {name: shared.process(name).addresses["rpc"] for name in ("gateway", "links")}
    assert told["OBJECT_STORE_URL"] == shared.process("objects").addresses["OBJECT_STORE_URL"]
    assert f"http://{told['GATEWAY_ADDRESS']}" == shared.state().url
    assert len(bytes.fromhex(told["GROUNDSWELL_INTERNAL_KEY"])) == 32


def test_a_process_steps_back_as_far_as_all_of_its_modules_do(shared: Platform) -> None:
    """Behind the processes of its own session and, where Linux shares processors out by sessions, behind the other sessions."""
    assert psutil.Process(shared.pid("gateway")).nice() == 0
    assert psutil.Process(shared.pid("links")).nice() == 7
    assert load("all", TOPOLOGY).niceness_of("all") == 0
    group = Path(f"/proc/{shared.pid('links')}/autogroup")
    assert not group.exists() or group.read_text().endswith("nice 7\n")


def test_an_address_in_the_environment_replaces_an_engine(platform: Platform) -> None:
    command = [sys.executable, "-m", "groundswell", "up", f"--home={platform.home}", "--port=0"]
    command += ["--topology=each", f"--topology-file={WITH_ENGINE}"]
    theirs = {"REDIS_URL": "redis://127.0.0.1:6390"}
    subprocess.run(command, check=True, capture_output=True, env=environment() | theirs)
    assert platform.settings("links")["REDIS_URL"] == theirs["REDIS_URL"]
    assert "valkey" not in [each.name for each in platform.state().processes]


def test_a_second_up_says_that_it_runs_already(shared: Platform) -> None:
    again = shared.up()
    assert again.returncode == 0
    assert shared.state().url in again.stdout
    assert "runs already" in again.stdout


def test_a_crashed_process_is_started_again_and_it_shows(shared: Platform) -> None:
    first, restarts = shared.pid("links"), shared.process("links").restarts
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: shared.process("links").restarts == restarts + 1 and shared.process("links").state == "ready")
    assert shared.pid("links") != first
    assert shared.process("links").last_exit == "ended by signal 9"
    assert "ended by signal 9" in shared.run("logs").stdout


def test_a_crashed_engine_comes_back_at_the_same_address(tmp_path: Path) -> None:
    running = Platform(tmp_path / "home", WITH_ENGINE)
    try:
        assert running.up().returncode == 0
        before = running.process("valkey")
        assert running.settings("links")["REDIS_URL"] == before.addresses["REDIS_URL"]
        os.kill(running.pid("valkey"), signal.SIGKILL)
        wait_for(lambda: running.process("valkey").restarts == 1 and running.process("valkey").state == "ready")
        assert running.process("valkey").addresses == before.addresses
    finally:
        running.run("down")


def test_what_is_stopped_stays_stopped_until_it_is_started(shared: Platform) -> None:
    pid, restarts, crashes = shared.pid("links"), shared.process("links").restarts, shared.process("gateway").restarts
    assert shared.run("stop", "links").returncode == 0
    assert gone(pid)
    os.kill(shared.pid("gateway"), signal.SIGKILL)  # by the time this one is back, the other would be too
    wait_for(lambda: shared.process("gateway").restarts == crashes + 1)
    assert shared.process("links").state == "stopped"
    assert shared.run("ps").returncode == 1
    assert shared.run("start", "links").returncode == 0
    assert shared.process("links").state == "ready"
    assert shared.process("links").restarts == restarts


def test_restart_adds_settings_and_an_empty_one_takes_them_back(shared: Platform) -> None:
    assert shared.run("restart", "links", "--set", "FRAMES_ACKS=0", "--set", "A=b=c").returncode == 0
    assert shared.settings("links")["FRAMES_ACKS"] == "0"
    assert shared.settings("links")["A"] == "b=c"
    assert "FRAMES_ACKS" not in shared.settings("gateway")
    data = shared.settings("links")["GROUNDSWELL_DATA"]
    assert shared.run("restart", "links", "--set", "FRAMES_ACKS=", "--set", "GROUNDSWELL_DATA=").returncode == 0
    assert shared.settings("links")["FRAMES_ACKS"] == ""
    assert shared.settings("links")["GROUNDSWELL_DATA"] == data, "what the supervisor gives is there again"


def test_an_unknown_name_is_answered_with_the_nearest_one(shared: Platform) -> None:
    done = shared.run("restart", "linsk")
    assert done.returncode == 1
    assert "Did you mean links?" in done.stderr


def test_a_module_stands_for_the_process_that_runs_it(platform: Platform) -> None:
    """Its log is that of the process, also where one of its own is left from another topology."""
    assert platform.up(topology="all").returncode == 0
    (platform.home / "logs" / "links.log").write_text("of yesterday\n")
    logged = platform.run("logs", "links")
    assert logged.stdout.startswith("modules: gateway links\n")
    done = platform.run("restart", "links", "--set", "FRAMES_ACKS=0")
    assert done.returncode == 0, done.stderr
    assert "links runs inside the process all here (gateway, links)" in done.stdout
    assert platform.settings("all")["FRAMES_ACKS"] == "0"
    assert platform.run("stop", "gateway").returncode == 0
    assert platform.process("all").state == "stopped"
    assert platform.run("start", "links").returncode == 0


@pytest.mark.parametrize("verb", ["list", "redrive"])
def test_dead_letters_of_a_broker_that_was_given_and_is_away_are_answered_with_a_sentence(
    platform: Platform, tmp_path: Path, verb: str
) -> None:
    """The broker's address is the one that `up` was given, although this shell does not have it."""
    broker, topology = f"127.0.0.1:{ports.draw(1)[0]}", tmp_path / "topology.yaml"
    described = TOPOLOGY.read_text().replace("[objects]", "[kafka]").replace("{folder}", str(TOPOLOGY.parent))
    topology.write_text(described)
    up = [sys.executable, "-m", "groundswell", "up", f"--home={platform.home}", f"--topology-file={topology}"]
    theirs = {**environment(), "KAFKA_BOOTSTRAP_SERVERS": broker}
    subprocess.run([*up, "--port=0"], check=True, capture_output=True, env=theirs)
    done = platform.run("dlq", verb, "links.events.v1")
    assert done.returncode == 1
    assert done.stderr == f"groundswell: The broker at {broker} does not answer. Start it, then try again.\n"


def test_dead_letters_of_a_topic_that_has_none_are_answered_with_those_nearest_to_it_that_have(
    platform: Platform, kafka_address: str
) -> None:
    asyncio.run(topics.create(kafka_address, TOPICS))
    command = [sys.executable, "-m", "groundswell", "dlq", f"--home={platform.home}", "list", "link.event"]
    theirs = {**environment(), "KAFKA_BOOTSTRAP_SERVERS": kafka_address}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=theirs)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "groundswell: No dead letters are kept of 'link.event'. They are of: links.events.v1, "
    )


def test_down_leaves_no_process_and_a_later_up_keeps_every_address(running: Platform) -> None:
    before = {each.name: each.addresses for each in running.state().processes}
    pids = running.pids()
    done = running.run("down")
    assert done.returncode == 0
    assert "links: stopped" in done.stdout
    assert all(gone(pid) for pid in pids)
    assert running.run("ps").returncode == 1
    assert running.up("--port", before["gateway"]["http"].rpartition(":")[2]).returncode == 0
    assert {each.name: each.addresses for each in running.state().processes} == before


def test_down_where_nothing_runs_says_so(platform: Platform) -> None:
    done = platform.run("down")
    assert done.returncode == 0
    assert "Nothing runs" in done.stdout


def test_sigterm_to_the_supervisor_leaves_no_process(running: Platform) -> None:
    pids = running.pids()
    os.kill(pids[0], signal.SIGTERM)
    wait_for(lambda: all(gone(pid) for pid in pids))


def test_ctrl_c_in_the_foreground_leaves_no_process(platform: Platform) -> None:
    command = [sys.executable, "-m", "groundswell", "up", f"--home={platform.home}", "--foreground", "--port=0"]
    command += ["--topology=each", f"--topology-file={TOPOLOGY}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as foreground:
        assert foreground.stdout is not None
        wait_for(lambda: foreground.stdout and "is up" in foreground.stdout.readline())
        pids = platform.pids()
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(timeout=WAIT_S_MAX) == 0
    assert all(gone(pid) for pid in pids)


def test_a_killed_supervisor_takes_its_children_along_and_the_next_up_works(running: Platform) -> None:
    pids = running.pids()
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: all(gone(pid) for pid in pids))
    assert "Nothing runs" in running.run("down").stdout
    done = running.up()
    assert done.returncode == 0, done.stderr
    assert not set(pids) & set(running.pids())


def test_up_ends_what_a_killed_supervisor_left_but_no_stranger_of_the_same_pid(running: Platform) -> None:
    leftover = subprocess.Popen(["sleep", "600"], start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(running.pids()[0], signal.SIGKILL)
    recorded = json.loads((running.home / "state.json").read_text())
    first, second, *_ = [each for each in recorded["processes"] if each["kind"] == "process"]
    first.update(pid=leftover.pid, started=children.start_time_s(leftover.pid))
    second.update(pid=stranger.pid, started=(children.start_time_s(stranger.pid) or 0) - 100)
    (running.home / "state.json").write_text(json.dumps(recorded))
    try:
        wait_for(lambda: "Nothing runs" in running.run("ps").stderr)
        assert running.up().returncode == 0
        assert leftover.wait(timeout=WAIT_S_MAX) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for each in (leftover, stranger):
            each.kill()
            each.wait()


def test_two_homes_beside_each_other_do_not_meet(shared: Platform, tmp_path: Path) -> None:
    other = Platform(tmp_path / "other")
    try:
        assert other.up().returncode == 0
        mine = {address for each in shared.state().processes for address in each.addresses.values()}
        theirs = {address for each in other.state().processes for address in each.addresses.values()}
        assert not mine & theirs
        assert other.run("down").returncode == 0
        assert shared.run("ps").returncode == 0
    finally:
        other.run("down")


def test_a_home_whose_path_is_too_long_for_a_socket_works(tmp_path: Path) -> None:
    platform = Platform(tmp_path / ("long" * 30))
    try:
        assert platform.up().returncode == 0
        assert platform.run("restart", "links").returncode == 0
    finally:
        platform.run("down")
