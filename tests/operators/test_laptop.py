"""Goal: a laptop's processes are raised for a spike and given back, once, by the saga of the cluster. Method: a real supervisor over tiny
programs, a real log, and the operator as a process of its own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEnded, SpikeStarted
from groundswell_operator.applying.errors import Away
from groundswell_operator.laptop import policies
from groundswell_operator.laptop.book import Book, Unreadable
from groundswell_operator.laptop.command import followed
from groundswell_operator.rehearsing import files
from tests.engines.homes import Platform
from tests.operators.laptops import POLICY, Laptop

TOPOLOGY = Path(__file__).parents[1] / "engines" / "topology_with_log.yaml"
WOKEN_S_MAX = 20.0


@pytest.fixture
def laptop(tmp_path: Path, kafka_address: str) -> Iterator[Laptop]:
    """A home that runs, with its policy; nobody acts upon it yet."""
    platform = Platform(tmp_path / "home", TOPOLOGY, {"KAFKA_BOOTSTRAP_SERVERS": kafka_address})
    done = platform.up()
    assert done.returncode == 0, done.stderr
    made = Laptop(platform, kafka_address)
    made.write_policy()
    yield made
    made.end()
    platform.run("down")


def told(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "groundswell_operator", "laptop", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def test_a_spike_raises_a_process_within_what_it_may_have_and_all_comes_back_in_steps(laptop: Laptop) -> None:
    """The policy is that of a cluster: 50 pods at most, targets by the names of a release, a gateway that has one replica here."""
    scales = [("links", "Deployment", "groundswell-links", 5), ("web", "StatefulSet", "groundswell-gateway", 10)]
    actions = [
        {"name": name, "scale": {"targetRef": {"kind": kind, "name": target}, "multiplier": times, "max": 50}}
        for name, kind, target, times in scales
    ]
    laptop.write_policy(actions=actions)
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    assert laptop.platform.state().replicas["links"].ready == 4
    assert [each["baseline"]["replicas"] for each in laptop.spike()["status"]["targets"]] == [1, 1]
    assert laptop.platform.state().replicas["gateway"].desired == 1
    await laptop.publish(SpikeEnded)
    laptop.wait_for(lambda: laptop.phase() == "Restored")
    assert laptop.ordered() == [4, 3, 2, 1]
    assert laptop.wanted() == 1
    assert "Restored=True" in laptop.log()


async def test_an_operator_that_is_killed_after_every_single_step_makes_one_raise_and_one_return(
    laptop: Laptop,
) -> None:
    await laptop.publish(SpikeStarted)
    lives, ended = 0, False

    def rests(process: subprocess.Popen[bytes]) -> bool:
        """Whether nothing is left to do before the spike is over."""
        return process.poll() is not None or (laptop.phase() == "Holding" and not ended)

    while laptop.phase() != "Restored":
        process = laptop.start("tests.operators.dying_laptop")
        lives += 1
        laptop.wait_for(partial(rests, process))
        if laptop.ordered():
            assert laptop.spike()["status"]["targets"][0]["baseline"]["replicas"] == 1, (
                "known before anything was raised"
            )
        if process.poll() is None:
            await laptop.publish(SpikeEnded)
            ended = True
            laptop.wait_for(lambda process=process: process.poll() is not None)
    assert lives >= 8, "it died between all that it did"
    ordered = laptop.ordered()
    assert (ordered[0], ordered[-1]) == (3, 1)
    assert ordered == sorted(set(ordered), reverse=True), "a step that was due twice while nobody lived is one"
    assert laptop.wanted() == 1


async def test_observing_asks_the_supervisor_for_nothing_and_records_what_it_would_do(laptop: Laptop) -> None:
    """The control is every other test here: they find what was asked in the same log."""
    before = laptop.platform.state().replicas
    laptop.write_policy(mode="Observe")
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: "Scaled=False: links 3 (WouldRaise)" in laptop.log())
    await laptop.publish(SpikeEnded)
    laptop.wait_for(lambda: laptop.phase() == "Restored")
    assert laptop.ordered() == []
    after = laptop.platform.state().replicas
    assert {name: each.version for name, each in after.items()} == {name: each.version for name, each in before.items()}
    (target,) = laptop.spike()["status"]["targets"]
    assert (target["wouldHave"]["pods"], target["wouldHave"]["podsAlone"]) == (3, 1)


async def test_a_spike_that_waits_for_approval_is_acted_upon_once_the_file_says_so(laptop: Laptop) -> None:
    laptop.write_policy(mode="Approve")
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "AwaitingApproval")
    assert laptop.ordered() == []
    laptop.write_policy({"groundswell.dev/approve": laptop.spike_name}, mode="Approve")
    laptop.wait_for(lambda: laptop.ordered() == [3])


async def test_whoever_writes_the_file_of_a_policy_wakes_the_operator(tmp_path: Path) -> None:
    """One that is put in its place, written, and taken away."""
    file, woken = tmp_path / "policy.yaml", asyncio.Event()
    following = asyncio.create_task(followed([file], woken.set))
    await asyncio.sleep(0)  # it looks once before anything happens
    try:
        for change in (lambda: file.write_text("a"), lambda: file.write_text("b"), file.unlink):
            change()
            async with asyncio.timeout(WOKEN_S_MAX):
                await woken.wait()
            woken.clear()
    finally:
        following.cancel()


async def test_what_the_budget_does_not_cover_is_not_raised(laptop: Laptop) -> None:
    laptop.write_policy(budget={"maxExtraReplicas": 1})
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    assert laptop.ordered() == [2]


async def test_what_a_person_sets_meanwhile_is_what_they_get_back(laptop: Laptop) -> None:
    """Lower than what is held: raised again, and theirs in the end. Method: they say it while three are held."""
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    assert laptop.platform.run("scale", "links", "2").returncode == 0
    laptop.wait_for(lambda: laptop.ordered() == [3, 3])
    await laptop.publish(SpikeEnded)
    laptop.wait_for(lambda: laptop.phase() == "Restored")
    assert laptop.wanted() == 2


async def test_what_a_person_sets_higher_meanwhile_stays(laptop: Laptop) -> None:
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    assert laptop.platform.run("scale", "links", "4").returncode == 0
    await laptop.publish(SpikeEnded)
    laptop.wait_for(lambda: laptop.phase() == "Restored")
    assert laptop.wanted() == 4
    assert laptop.ordered() == [3]
    reasons = {each["type"]: each["reason"] for each in laptop.spike()["status"]["conditions"]}
    assert reasons["Restored"] == "BaselineChanged"


async def test_a_platform_that_is_started_anew_in_the_middle_of_a_spike_is_raised_again(laptop: Laptop) -> None:
    laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    assert laptop.platform.run("down").returncode == 0
    assert laptop.platform.up().returncode == 0
    laptop.wait_for(lambda: laptop.platform.state().replicas["links"].ready == 3)
    await laptop.publish(SpikeEnded)
    laptop.wait_for(lambda: laptop.phase() == "Restored")
    assert laptop.wanted() == 1


async def test_all_is_given_back_at_once_when_told_to_and_nobody_else_may_act_meanwhile(laptop: Laptop) -> None:
    process = laptop.start()
    await laptop.publish(SpikeStarted)
    laptop.wait_for(lambda: laptop.phase() == "Holding")
    home = f"--home={laptop.platform.home}"
    second = told(home, str(laptop.file), "--give-back")
    assert (second.returncode, second.stderr) == (
        2,
        f"Another process acts upon spikes in {laptop.platform.home} already.\n",
    )
    laptop.end()
    assert process.returncode == 0
    assert laptop.wanted() == 3, "what is raised stays raised"
    assert told(home, str(laptop.file), "--give-back").returncode == 0
    assert laptop.ordered() == [3, 1]
    assert laptop.spike() == {}


def test_a_home_in_which_nothing_runs_is_answered_with_what_to_do(tmp_path: Path) -> None:
    done = told(f"--home={tmp_path}", str(tmp_path / "policy.yaml"))
    assert (done.returncode, done.stderr) == (
        2,
        f"Nothing runs in {tmp_path}. Start it with: groundswell up --home {tmp_path}\n",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cooldown": {"minHold": "0s"}}, "minHold must be a whole number of s, m or h, such as 90s; it is '0s'"),
        ({"cooldown": {"stepFactor": 2}}, "stepFactor must be above 0 and at most 0.5"),
        ({"budget": {"maxExtraReplicas": 0}}, "maxExtraReplicas must be 1 or more"),
        ({"actions": [{"name": "nothing"}]}, "nothing must have exactly one of scale, configMapPatch and notify"),
    ],
)  # fmt: skip
def test_a_policy_that_could_not_be_followed_is_refused_with_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump({**POLICY, "spec": {**POLICY["spec"], **changes}}))
    with pytest.raises(files.Unreadable, match=re.escape(f"{file}: {said}")):
        policies.read(file)


def test_a_book_that_is_damaged_or_of_another_version_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """What it says was raised would never come back."""
    file = tmp_path / "spikes.json"
    file.write_text("{")
    with pytest.raises(Unreadable, match="is damaged"):
        Book(file)
    file.write_text('{"layout": 2}')
    with pytest.raises(Unreadable, match="another version"):
        Book(file)


def test_a_change_that_cannot_be_written_was_not_made(tmp_path: Path) -> None:
    book = Book(tmp_path / "home" / "spikes.json")
    with pytest.raises(Away, match="cannot be written"):
        book.put_spike("vs-1", {"metadata": {"name": "vs-1"}})
    assert not book.spikes
    (tmp_path / "home").mkdir()
    book.put_spike("vs-1", {"metadata": {"name": "vs-1"}})
    assert Book(tmp_path / "home" / "spikes.json").spikes == book.spikes
