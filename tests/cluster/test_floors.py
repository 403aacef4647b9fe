"""Floors on a real control plane in which somebody else has a say: a person, Helm, or the load that an autoscaler sees."""

from __future__ import annotations

import time

import pytest

from groundswell.engines import ports
from groundswell_operator.applying import scalers
from tests.cluster import load
from tests.cluster.control_plane.api import until
from tests.cluster.forms import slow
from tests.cluster.operating import QUICK, Operated, scales
from tests.cluster.raising import WEB, led_with_targets

NEEDED = 12
"""Pods of web that the load calls for after a spike, more than before it."""


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-3")
async def test_who_resets_the_floor_finds_it_raised_again_within_five_seconds(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 5, "maxReplicas": 25})
    began = time.monotonic()

    async def raised() -> bool:
        return await place.bounds("web") == (30, 30)

    await until(raised)
    assert time.monotonic() - began < 5
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (5, 25)


@pytest.mark.promise("OPERATOR-8")
@slow
async def test_a_floor_that_somebody_else_has_set_to_the_same_value_is_left_to_them(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 30, "maxReplicas": 30})
    assert len(await place.floor_managers("web")) == 2
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (30, 30)
    assert await place.floor_managers("web") == {"helm"}


@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_that_somebody_raises_above_the_spikes_stays_and_the_spike_names_it(place: Operated) -> None:
    """A person who sets 35 while the spike holds 30 finds 35 afterwards, and reads why nothing came back."""
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.helm_sets("web", {"minReplicas": 35, "maxReplicas": 40})
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("web") == (35, 40)
    events = await place.admin.items(place.path("v1", "events"), fieldSelector="involvedObject.name=vs-a")
    (told,) = [each["message"] for each in events if each["reason"] == "BaselineChanged"]
    assert "web" in told


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-8")
async def test_a_floor_is_taken_back_in_halves_and_never_below_what_the_load_calls_for(place: Operated) -> None:
    average = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    scaler = {**WEB, "metrics": [{"type": "External", "external": average}]}
    async with load.served(place.admin, place.namespace, place.folder, ports.draw(1)[0], 3) as called_for:
        await place.target("web", 3, scaler=scaler)
        await place.leads(place.start("one"))
        policy = await place.policy(actions=[scales("web", 10)], cooldown=QUICK)
        path = await place.spike("vs-a", policy)
        await place.comes_to(path, "Holding")
        called_for.total = NEEDED
        await until(lambda: _wants(place, NEEDED))
        await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
        # at what the autoscaler wants the floor holds nothing up any more
        assert await _floors_until(place, 3) == [30, 17, NEEDED, 3]
        await place.comes_to(path, "Restored")
        assert await place.bounds("web") == (3, 20)
        assert (await place.admin.get(place.deployment("web")))["spec"]["replicas"] >= NEEDED


@slow
async def test_observing_compares_the_plan_with_what_the_autoscaler_did_alone(place: Operated) -> None:
    average = {"metric": {"name": load.METRIC}, "target": {"type": "AverageValue", "averageValue": "1"}}
    scaler = {**WEB, "metrics": [{"type": "External", "external": average}]}
    async with load.served(place.admin, place.namespace, place.folder, ports.draw(1)[0], 3) as called_for:
        await place.target("web", 3, scaler=scaler)
        await until(lambda: _wants(place, 3))
        await place.leads(place.start("one"))
        policy = await place.policy(mode="Observe", actions=[scales("web", 2)], cooldown=QUICK)
        path = await place.spike("vs-a", policy)
        await place.comes_to(path, "Raising")
        called_for.total = 6
        await until(lambda: place.ready("web", 6), 60)
        await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
        status = await place.comes_to(path, "Restored")
        found = status["targets"][0]["wouldHave"]
        assert (found["pods"], found["podsAlone"]) == (6, 6)
        assert 0 < found["secondsEarlier"] < 60
        assert found["replicaSeconds"] > found["replicaSecondsAlone"] > 0
        assert not place.foreign()


async def _wants(place: Operated, replicas: int) -> bool:
    return scalers.wants(await place.admin.get(place.autoscaler("web"))) == replicas


async def _floors_until(place: Operated, last: int) -> list[int]:
    """The floors of web one after the other, up to a last one."""
    seen: list[int] = []

    async def is_last() -> bool:
        floor = (await place.bounds("web"))[0]
        if not seen or seen[-1] != floor:
            seen.append(floor)
        return floor == last

    await until(is_last, 60)
    return seen
