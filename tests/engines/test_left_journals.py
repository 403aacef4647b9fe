"""A home whose topology changes: one process is told of the journals that none of the new topology holds.

Goal: nothing that was spooled stays behind, and no journal has two who send it. Method: real supervisors over tiny programs,
which tell what they were told; empty segments stand for journals.
"""

from pathlib import Path

import pytest

from tests.engines.homes import Platform

SCALED = Path(__file__).with_name("topology_scaled.yaml")
PROCESSES = ("links", "live", "writer", "collector", "nameless", "gateway")


def keeps_journal(home: Path, *names: str) -> None:
    for name in names:
        folder = home / "data" / name / "journal"
        folder.mkdir(parents=True)
        (folder / "7-000000000001.log").touch()


@pytest.mark.promise("GATEWAY-8")
def test_the_door_is_told_of_all_journals_that_no_process_of_the_topology_holds(tmp_path: Path) -> None:
    """Also of one in the folder of a process that keeps none by now, and of a replica's; not of one whose process may keep one."""
    platform = Platform(tmp_path / "home", SCALED)
    keeps_journal(platform.home, "all", "gateway", "collector", "nameless", "links", "gateway-2", "an-older-name")
    (platform.home / "data" / "empty" / "journal").mkdir(parents=True)
    done = platform.up()
    assert done.returncode == 0, done.stderr
    try:
        told = {name: platform.settings(name).get("GROUNDSWELL_LEFT") for name in PROCESSES}
    finally:
        platform.run("down")
    assert told.pop("gateway") == "all,an-older-name,gateway-2,links"
    assert set(told.values()) == {None}


@pytest.mark.promise("GATEWAY-8")
def test_a_topology_of_one_process_is_told_of_the_journals_of_all_others(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home", SCALED)
    keeps_journal(platform.home, "all", "gateway", "collector")
    done = platform.up(topology="all")
    assert done.returncode == 0, done.stderr
    try:
        assert platform.settings("all")["GROUNDSWELL_LEFT"] == "collector,gateway"
    finally:
        platform.run("down")
