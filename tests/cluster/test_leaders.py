"""Two operators and one Lease: somebody acts within fifteen seconds, and never two."""

from __future__ import annotations

import asyncio
import time

import pytest

from groundswell.engines import ports
from groundswell_operator.applying.requests import LANDS_S_MAX
from tests.cluster import storm
from tests.cluster.control_plane.api import until
from tests.cluster.forms import form, slow
from tests.cluster.operating import Operated, scales
from tests.cluster.raising import with_targets
from tests.cluster.test_operator_faults import SEED, through

TAKEOVER_S_MAX = 15.0
END_S_MAX = 5.0
STOPPED_S = form(0.0, 20.0)
"""How long a leader is stopped for at least: its successor leads earlier."""
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
    stopped = time.monotonic()
    second = place.start("two")
    await place.leads(second)
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    before = place.writes("one")
    await asyncio.sleep(max(0.0, STOPPED_S - (time.monotonic() - stopped)))
    first.thaw()

    async def ended() -> bool:
        return first.popen.poll() is not None

    await until(ended)
    assert first.popen.returncode == 1
    assert place.writes("one") == before
    assert await place.bounds("web") == (3, 20)


@pytest.mark.promise("OPERATOR-9")
@pytest.mark.parametrize(
    "raised_again",
    [
        pytest.param(True, id="after another raise"),
        pytest.param(False, id="where nothing was written since", marks=slow),
    ],
)
@pytest.mark.parametrize(
    "is_told_to_end", [pytest.param(False, id="stopped"), pytest.param(True, id="told to end", marks=slow)]
)
async def test_a_write_that_is_on_its_way_while_another_takes_over_is_refused_or_given_back(
    place: Operated, raised_again: bool, is_told_to_end: bool
) -> None:
    """The leader is stopped, or ends, with a floor in a socket, which lands after the spike was deleted: what was raised since made its
    version another one; where nothing was, whoever leads now waits for it."""
    await with_targets(place)
    plane, port = place.plane, ports.draw(1)[0]
    authority = plane.folder / "keys" / "authority.crt"
    async with storm.raging(plane.address, authority, place.folder, port, SEED, 0.0) as rages:
        await through(place, f"https://127.0.0.1:{port}")
        first = place.start("one", account="through-the-storm")
        await place.leads(first)
        rages.keeps_one(lambda asked: asked.method == "PATCH" and "/horizontalpodautoscalers/" in asked.path)
        path = await place.spike("vs-a", await place.policy(actions=[scales("web", 10)]))
        await rages.keeps.wait()
        if is_told_to_end:
            first.popen.terminate()
            assert await asyncio.to_thread(first.popen.wait, END_S_MAX) == 0
        else:
            first.freeze()
        if not raised_again:
            await place.admin.delete(path)
        second = place.start("two")
        await place.leads(second)
        if raised_again:
            await place.comes_to(path, "Holding")
            await place.admin.delete(path)
            await until(lambda: place.gone(path))
        else:
            other = await place.policy("other", actions=[scales("readers", 5)])
            await place.comes_to(await place.spike("vs-b", other), "Holding")
            assert not await place.gone(path), "by now it would be let go"
        rages.lets_it_go()

        async def landed() -> bool:
            return bool(rages.landed)

        await until(landed)
        assert not raised_again or rages.landed == [409]
        await until(lambda: place.gone(path), LANDS_S_MAX + END_S_MAX)
        assert await place.bounds("web") == (3, 20)
        first.kill()


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
