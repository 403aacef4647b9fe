"""Targets that a ScaledObject governs, on a real control plane: the API server, its autoscalers and field managers are what they are.

KEDA's own operator does not run here. For it stands one behaviour that it documents: the autoscaler which a ScaledObject owns follows its
bounds (`keda`, which says what that does not prove).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from groundswell.engines import ports
from groundswell_operator.applying import scalers
from groundswell_operator.applying.ownership import MANAGER
from groundswell_operator.applying.scaled_objects import ABSENT_S
from groundswell_operator.reconciling import IDLE_S
from tests.cluster import keda, load
from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.forms import slow
from tests.cluster.operating import Operated, scales

OVER = {"status": {"over": "2026-11-25T00:00:00Z"}}
Bounds = tuple[int | None, int | None]


@pytest.fixture(scope="module")
def scaled_objects(control_plane: ControlPlane) -> Iterator[None]:
    """The kind, for the tests of this file that ask for it."""
    with keda.served(control_plane):
        yield


@pytest.fixture
async def scaled(place: Operated, scaled_objects: None) -> AsyncIterator[Operated]:
    """A place in which autoscalers follow ScaledObjects."""
    async with keda.following(place.admin, place.namespace):
        yield place


def scaled_object(place: Operated, name: str) -> str:
    return place.path(keda.GROUP, "scaledobjects", name)


async def helm_sets(place: Operated, name: str, **spec: object) -> None:
    """What `helm upgrade` does to a ScaledObject, which is the Deployment's of its name and says no kind."""
    value = {
        "apiVersion": keda.GROUP,
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": {"name": name}, "triggers": [{}], **spec},
    }
    await place.admin.patch(scaled_object(place, name), value, "apply", fieldManager="helm", force="true")


async def bounds(place: Operated, name: str) -> Bounds:
    """The floor and ceiling of a ScaledObject; None for what it does not say."""
    spec = (await place.admin.get(scaled_object(place, name)))["spec"]
    return spec.get("minReplicaCount"), spec.get("maxReplicaCount")


async def follows(place: Operated, name: str, floor: int, ceiling: int) -> None:
    """Returns once the autoscaler that KEDA keeps has these bounds."""

    async def followed() -> bool:
        try:
            return await place.bounds(f"keda-hpa-{name}") == (floor, ceiling)
        except Refused:
            return False

    await until(followed)


async def with_web(place: Operated, replicas: int = 3, **spec: object) -> None:
    """Web, whose ScaledObject says what `spec` does; an operator leads."""
    floor, ceiling = spec.get("minReplicaCount", 1), spec.get("maxReplicaCount", 100)
    assert isinstance(floor, int)
    assert isinstance(ceiling, int)

    async def governed() -> None:
        await place.target("web", replicas)
        await helm_sets(place, "web", **spec)
        await follows(place, "web", floor, ceiling)

    await asyncio.gather(governed(), place.leads(place.start("one")))


def only_the_scaled_object_is_written(place: Operated) -> bool:
    """And the scale, unless the autoscaler was quicker."""
    return {"scaledobjects/web"} <= set(place.foreign()) <= {"scaledobjects/web", "deployments/web"}


@slow
async def test_where_keda_is_not_served_it_is_asked_for_once_in_five_minutes_and_nothing_is_said_of_it(
    place: Operated,
) -> None:
    await place.target("web", 3, scaler={"minReplicas": 3, "maxReplicas": 20})
    began_s, process = time.monotonic(), place.start("one")
    await place.leads(process)
    path = await place.spike("vs-a", await place.policy(actions=[scales("web", 10)]))
    await place.comes_to(path, "Holding")
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    passes = [each for each in place.plane.audit(place.namespace) if each["requestURI"] == place.policies]
    questions = await asked(place)
    assert set(questions) == {place.path(keda.GROUP, "scaledobjects")}
    assert len(questions) <= 1 + (time.monotonic() - began_s) / ABSENT_S
    assert len(passes) > 3
    assert not place.refusals()
    said = process.log.read_text().lower()
    assert "scaledobject" not in said
    assert "keda" not in said


@slow
async def test_an_operator_that_began_without_keda_notices_it_by_the_autoscaler_that_a_scaled_object_owns(
    place: Operated, control_plane: ControlPlane
) -> None:
    await place.target("web", 3)
    await place.leads(place.start("one"))
    await until(lambda: asked(place))
    with keda.served(control_plane):
        async with keda.following(place.admin, place.namespace):
            await helm_sets(place, "web", minReplicaCount=3, maxReplicaCount=20)
            await follows(place, "web", 3, 20)
            policy = await place.policy(actions=[scales("web", 10)])
            await place.says(f"{place.policies}/default", "Ready", "Usable", 2 * IDLE_S)
            await place.comes_to(await place.spike("vs-a", policy), "Holding")
            assert await bounds(place, "web") == (30, 30)
    assert not place.refusals()


async def asked(place: Operated) -> list[str]:
    """Every request for ScaledObjects by the operator."""
    events = (
        each for each in place.plane.audit(place.namespace) if "groundswell-operator/" in each.get("userAgent", "")
    )
    return [each["requestURI"] for each in events if "keda.sh" in each["requestURI"]]


@pytest.mark.promise("OPERATOR-3")
async def test_a_spike_raises_the_floor_of_a_scaled_object_and_its_autoscaler_follows_and_is_never_written(
    scaled: Operated,
) -> None:
    await with_web(scaled, minReplicaCount=3, maxReplicaCount=20)
    path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)]))
    status = await scaled.comes_to(path, "Holding")
    assert await bounds(scaled, "web") == (30, 30)
    await follows(scaled, "web", 30, 30)
    assert await scaled.ready("web", 30)
    assert scaled.foreign()[0] == "scaledobjects/web"
    before = status["targets"][0]["baseline"]
    assert (before["replicas"], before["hpaMin"], before["hpaMax"], before.get("unset")) == (3, 3, 20, None)
    await scaled.admin.delete(path)
    await until(lambda: scaled.gone(path))
    assert await bounds(scaled, "web") == (3, 20)
    await follows(scaled, "web", 3, 20)
    assert only_the_scaled_object_is_written(scaled)
    assert not scaled.refusals()


@pytest.mark.promise("OPERATOR-3")
@slow
async def test_bounds_that_a_scaled_object_does_not_say_are_raised_and_absent_again(scaled: Operated) -> None:
    await with_web(scaled, replicas=11)
    path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)]))
    status = await scaled.comes_to(path, "Holding", 60)
    assert await bounds(scaled, "web") == (110, 110)
    await follows(scaled, "web", 110, 110)
    before = status["targets"][0]["baseline"]
    assert (before["hpaMin"], before["hpaMax"], before["unset"]) == (0, 100, ["hpaMin", "hpaMax"])
    await scaled.admin.delete(path)
    await until(lambda: scaled.gone(path))
    assert await bounds(scaled, "web") == (None, None)
    await follows(scaled, "web", 1, 100)
    assert only_the_scaled_object_is_written(scaled)


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-3")
async def test_who_resets_the_floor_of_a_scaled_object_finds_it_raised_again_within_five_seconds(
    scaled: Operated,
) -> None:
    await with_web(scaled, minReplicaCount=3, maxReplicaCount=20)
    path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)]))
    await scaled.comes_to(path, "Holding")
    await helm_sets(scaled, "web", minReplicaCount=5, maxReplicaCount=25)
    began = time.monotonic()

    async def raised() -> bool:
        return await bounds(scaled, "web") == (30, 30)

    await until(raised)
    assert time.monotonic() - began < 5
    await scaled.admin.delete(path)
    await until(lambda: scaled.gone(path))
    assert await bounds(scaled, "web") == (5, 25)
    assert only_the_scaled_object_is_written(scaled)


@pytest.mark.promise("OPERATOR-3")
@slow
async def test_a_floor_that_somebody_else_takes_out_of_a_scaled_object_is_raised_again_and_absent_in_the_end(
    scaled: Operated,
) -> None:
    await with_web(scaled, minReplicaCount=3, maxReplicaCount=100)
    path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)]))
    await scaled.comes_to(path, "Holding")
    await scaled.admin.patch(scaled_object(scaled, "web"), {"spec": {"minReplicaCount": None}}, fieldManager="edit")

    async def raised() -> bool:
        return await bounds(scaled, "web") == (30, 100)

    await until(raised)
    await scaled.admin.delete(path)
    await until(lambda: scaled.gone(path))
    assert await bounds(scaled, "web") == (None, 100)


@slow
async def test_a_floor_of_a_scaled_object_that_somebody_else_has_set_to_the_same_value_is_left_to_them(
    scaled: Operated,
) -> None:
    await with_web(scaled, minReplicaCount=3, maxReplicaCount=20)
    path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)]))
    await scaled.comes_to(path, "Holding")
    assert await managers(scaled.admin, scaled_object(scaled, "web")) == {MANAGER}
    await helm_sets(scaled, "web", minReplicaCount=30, maxReplicaCount=30)
    assert await managers(scaled.admin, scaled_object(scaled, "web")) == {MANAGER, "helm"}
    await scaled.admin.delete(path)
    await until(lambda: scaled.gone(path))
    assert await bounds(scaled, "web") == (30, 30)
    assert await managers(scaled.admin, scaled_object(scaled, "web")) == {"helm"}


async def managers(admin: Api, path: str) -> set[str]:
    """Who has set the floor of a ScaledObject to what it is."""
    fields: list[Object] = (await admin.get(path))["metadata"]["managedFields"]
    return {each["manager"] for each in fields if "f:minReplicaCount" in each["fieldsV1"].get("f:spec", {})}


@slow
async def test_a_paused_scaled_object_is_named_and_left_as_it_is_until_it_goes_on(scaled: Operated) -> None:
    await with_web(scaled, minReplicaCount=3, maxReplicaCount=20)
    await scaled.admin.patch(scaled_object(scaled, "web"), {"metadata": {"annotations": {keda.PAUSED: "true"}}})
    policy = await scaled.policy(actions=[scales("web", 10)])
    ready = await scaled.says(f"{scaled.policies}/default", "Ready", "ActionsUnusable")
    assert ready["message"] == ("web cannot be raised: the ScaledObject web is paused, so KEDA follows no floor of it")
    await scaled.says(await scaled.spike("vs-a", policy), "Scaled", "NothingRaised")
    assert not scaled.foreign()
    await scaled.admin.patch(scaled_object(scaled, "web"), {"metadata": {"annotations": {keda.PAUSED: None}}})
    await follows(scaled, "web", 3, 20)
    await scaled.comes_to(await scaled.spike("vs-b", policy), "Holding")
    assert await bounds(scaled, "web") == (30, 30)


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-8")
@slow
async def test_the_floor_of_a_scaled_object_is_taken_back_in_halves_and_never_below_what_its_autoscaler_calls_for(
    scaled: Operated,
) -> None:
    async with load.served(scaled.admin, scaled.namespace, scaled.folder, ports.draw(1)[0], 3) as called_for:
        await with_web(scaled, minReplicaCount=3, maxReplicaCount=20)
        await until(lambda: wants(scaled, 3))
        # the autoscaler looks at its metric once in five seconds
        cooldown = {"quietPeriod": "1s", "stepInterval": "10s", "minHold": "10s"}
        path = await scaled.spike("vs-a", await scaled.policy(actions=[scales("web", 10)], cooldown=cooldown))
        await scaled.comes_to(path, "Holding")
        called_for.total = 12
        await until(lambda: wants(scaled, 12))
        await scaled.admin.patch(f"{path}/status", OVER)
        assert await floors_until(scaled, 12) == [30, 17, 12]
        called_for.total = 3
        assert await floors_until(scaled, 3) == [12, 8, 6, 5, 4, 3]
        await scaled.comes_to(path, "Restored")
        assert await bounds(scaled, "web") == (3, 20)
        assert only_the_scaled_object_is_written(scaled)


async def wants(place: Operated, replicas: int) -> bool:
    return scalers.wants(await place.admin.get(place.autoscaler("keda-hpa-web"))) == replicas


async def floors_until(place: Operated, last: int) -> list[int | None]:
    """The floors of web's ScaledObject one after the other, up to a last one."""
    seen: list[int | None] = []

    async def is_last() -> bool:
        floor = (await bounds(place, "web"))[0]
        if not seen or seen[-1] != floor:
            seen.append(floor)
        return floor == last

    await until(is_last, 120)
    return seen
