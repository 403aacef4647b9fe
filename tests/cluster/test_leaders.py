"""Two operators and one Lease: somebody acts within fifteen seconds, and never two."""

from __future__ import annotations

import time

import pytest

from tests.cluster.control_plane.api import until
from tests.cluster.operating import Operated, scales
from tests.cluster.raising import with_targets

TAKEOVER_S_MAX = 15.0
END_S_MAX = 5.0
pytestmark = pytest.mark.alone


@pytest.mark.promise("OPERATOR-9")
async def test_another_operator_leads_within_fifteen_seconds_after_the_leader_was_killed(place: Operated) -> None:
    await with_targets(place)
    first = place.start("one")
    await place.leads(first)
    second = place.start("two")
    policy = await place.policy(actions=[scales("web", 10)])
    await place.comes_to(await place.spike("vs-a", policy), "Holding")
    await place.waits(second)
    assert not place.writes("two")
    first.kill()
    began = time.monotonic()
    await place.leads(second)
    assert time.monotonic() - began < TAKEOVER_S_MAX
    await place.comes_to(await place.spike("vs-b", policy), "Holding")


@pytest.mark.promise("OPERATOR-9")
async def test_a_leader_that_was_stopped_before_a_write_makes_none_that_lands_when_it_goes_on(place: Operated) -> None:
    await with_targets(place)
    first = place.start("one", "tests.cluster.dying", environment={"STOPS_BEFORE_FOREIGN": "2"})
    await place.leads(first)
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)

    async def floor_raised() -> bool:
        return (await place.bounds("web"))[0] == 30

    await until(floor_raised)  # and there it stopped, with the scale in hand
    second = place.start("two")
    await place.leads(second)
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    before = place.writes("one")
    first.thaw()

    async def ended() -> bool:
        return first.popen.poll() is not None

    await until(ended)
    assert first.popen.returncode == 1
    assert place.writes("one") == before
    assert await place.bounds("web") == (3, 20)


@pytest.mark.parametrize("which", ["leads", "waits"])
async def test_an_operator_that_is_told_to_end_does_so_at_once_and_leaves_the_lease_to_the_next(
    place: Operated, which: str
) -> None:
    first = place.start("one")
    await place.leads(first)
    second = place.start("two")
    await place.waits(second)
    ends, stays = (first, second) if which == "leads" else (second, first)
    ends.popen.terminate()
    assert ends.popen.wait(END_S_MAX) == 0
    await place.leads(stays)
