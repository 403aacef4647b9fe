"""Addresses that a user gives, and commands that a user is told to type."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from groundswell.engines import ports
from groundswell.engines.engine import checked_address
from groundswell.engines.errors import EngineError, SupervisorError
from groundswell.engines.home import Home
from groundswell.kernel import settings

ONLY_KAFKA = """
command: ["{python}", -c, "never started"]
engines: [kafka]
topics: TOPICS
door: gateway
topologies: {each: {gateway: [gateway]}}
"""


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "one.example:9092,two.example:9092"),
        ("REDIS_URL", "rediss://:secret@cache.example:6379?cluster=1"),
        ("POSTGRES_DSN", "postgresql://admin:secret@db.example/postgres"),
        ("CLICKHOUSE_DSN", "https://user:secret@events.example:8443/default"),
    ],
)
def test_an_address_of_its_kind_is_taken_as_it_is(variable: str, address: str) -> None:
    assert checked_address(variable, address) == address


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "one.example"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka://one.example:9092"),
        ("REDIS_URL", "127.0.0.1:secret"),
        ("POSTGRES_DSN", "secret"),
        ("CLICKHOUSE_DSN", "events.example:secret"),
        ("OBJECT_STORE_URL", "/objects"),
    ],
)
def test_what_is_no_address_of_its_kind_is_refused_by_name_and_not_told(variable: str, address: str) -> None:
    """At once: the processes would try it for two minutes. It may hold a password."""
    with pytest.raises(EngineError, match=variable) as refused:
        checked_address(variable, address)
    assert "secret" not in str(refused.value)


def test_a_broker_of_ones_own_that_does_not_answer_is_told_and_nothing_runs(tmp_path: Path) -> None:
    """Not "Groundswell is up"."""
    topology = tmp_path / "topology.yaml"
    topology.write_text(ONLY_KAFKA.replace("TOPICS", str(Path(__file__).parents[2] / "protos" / "topics")))
    address = f"127.0.0.1:{ports.draw(1)[0]}"
    home = tmp_path / "home"
    command = [sys.executable, "-m", "groundswell", "up", "--topology=each", f"--topology-file={topology}", "--port=0"]
    done = subprocess.run(
        [*command, f"--home={home}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": address},
    )
    assert done.returncode == 1
    assert f"Kafka at {address} does not do what it is asked" in done.stderr
    assert not Home(home).running()


def test_the_command_that_a_user_is_told_to_type_works_as_it_stands(tmp_path: Path) -> None:
    told = Home(tmp_path / "my home").command("down")
    done = subprocess.run(shlex.split(told), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"Nothing runs in {tmp_path / 'my home'}."), told


def test_in_the_folder_of_its_home_a_command_names_none() -> None:
    assert "--home" not in Home(Path(".groundswell")).command("ps")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", ":8080", "127.0.0.1:65536", "127.0.0.1:x"])
def test_what_is_no_host_and_port_is_refused_by_the_name_of_its_setting(address: str) -> None:
    with pytest.raises(
        settings.SettingError,
        match=re.escape(f"GATEWAY_ADDRESS must be HOST:PORT, such as 127.0.0.1:8080; it is {address!r}"),
    ):
        settings.host_and_port("GATEWAY_ADDRESS", address)


def test_ports_come_from_the_range_that_the_environment_names() -> None:
    range_of_four = {ports.VARIABLE: "19000-19003"}
    assert set(ports.draw(4, range_of_four)) == {19_000, 19_001, 19_002, 19_003}
    with pytest.raises(SupervisorError, match="no 5 free ports between 19000 and 19003"):
        ports.draw(5, range_of_four)


def test_a_port_that_is_kept_for_one_name_is_drawn_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours runs then, so it looks free. Method: as many ports as names, so that every draw would meet each kept one."""
    monkeypatch.setenv(ports.VARIABLE, "19010-19013")
    home = Home(tmp_path)
    kept = home.settle_ports(["one", "two"])
    door = home.settle_gateway_port(0)
    settled = home.settle_ports(["two", "three"])
    assert settled["two"] == kept["two"]
    assert {*kept.values(), door, settled["three"]} == {19_010, 19_011, 19_012, 19_013}
    with pytest.raises(SupervisorError, match="no 1 free ports"):
        home.settle_gateway_port(0)


def test_a_home_that_keeps_one_port_for_two_names_heals_at_its_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "ports.json").write_text(
        json.dumps({"gateway": 19_020, "one": 19_020, "two": 19_021, "three": 19_021, "four": 19_022})
    )
    assert home.settle_gateway_port(None) == 19_020
    settled = home.settle_ports(["one", "two", "three", "four"])
    assert len({19_020, *settled.values()}) == 5
    assert settled["four"] == 19_022
    assert home.settle_ports(["one", "two", "three", "four"]) == settled


@pytest.mark.parametrize("text", ["nonsense", "21000", "21003-21000", "80-90", "60000-70000", "21000-21003-"])
def test_a_range_of_ports_that_is_none_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(SupervisorError, match=re.escape(f"{ports.VARIABLE} must be FIRST-LAST, such as 20000-32000;")):
        ports.draw(1, {ports.VARIABLE: text})


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.symlink_to("/dev/null")], ids=["a folder", "a link"])
def test_a_port_that_cannot_be_claimed_is_told_in_a_sentence(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    with ports.claimed(30_000, tmp_path):
        (lock,) = tmp_path.iterdir()
    assert not lock.exists()
    spoil(lock)
    with pytest.raises(SupervisorError, match="name another folder in TMPDIR"), ports.claimed(30_000, tmp_path):
        pass
