"""What keeps a spike from its pods on a real control plane: it is said with its numbers, and the rest of the plan goes on."""

from __future__ import annotations

import asyncio

from tests.cluster.control_plane.api import Object, until
from tests.cluster.forms import slow
from tests.cluster.operating import Operated, scales
from tests.cluster.raising import READERS, WEB, led_with_targets


async def with_readers_and_web(place: Operated, cpu: str) -> Object:
    """Readers that ask for next to nothing, web that asks for `cpu` a pod; the policy that scales both at once."""
    await asyncio.gather(
        place.target("readers", 4, scaler=READERS, cpu="1m"),
        place.target("web", 3, scaler=WEB, cpu=cpu),
        place.leads(place.start("one")),
    )
    return await place.policy(actions=[scales("readers", 2), scales("web", 10)])


async def test_pods_that_a_quota_denies_are_told_of_with_their_numbers_and_the_rest_of_the_plan_goes_on(
    place: Operated,
) -> None:
    policy = await with_readers_and_web(place, "1")
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"requests.cpu": "5"}}}
    await place.admin.create(place.path("v1", "resourcequotas"), quota)
    path = await place.spike("vs-a", policy)
    degraded = await place.says(path, "Degraded", "PodsDenied")
    assert degraded["status"] == "True"
    await until(lambda: place.ready("readers", 8))

    async def told() -> bool:
        said = str((await place.says(path, "Degraded", "PodsDenied"))["message"])
        return said.startswith("26 of 30 pods of web are missing: ") and "exceeded quota: few" in said

    await until(told)
    assert await place.bounds("web") == (30, 30)
    assert not place.refusals()


@slow
async def test_pods_of_a_stateful_set_that_a_quota_denies_are_told_of_with_their_numbers(place: Operated) -> None:
    await place.readers_of_a_log("live", 2, partitions="16", cpu="1")
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("live", 5, kind="StatefulSet")])
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"requests.cpu": "4"}}}
    await place.admin.create(place.path("v1", "resourcequotas"), quota)
    path = await place.spike("vs-a", policy)

    async def told() -> bool:
        said = str((await place.says(path, "Degraded", "PodsDenied"))["message"])
        return said.startswith("6 of 10 pods of live are missing: ") and "exceeded quota: few" in said

    await until(told)
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("live") == (2, 20)
    assert not place.refusals()


@slow
async def test_pods_that_no_node_has_room_for_are_told_of_with_their_numbers_and_the_rest_of_the_plan_goes_on(
    place: Operated,
) -> None:
    policy = await with_readers_and_web(place, "30")  # one a node, of which there are twenty
    path = await place.spike("vs-a", policy)
    await until(lambda: place.ready("readers", 8))

    async def told() -> bool:
        said = str((await place.says(path, "Degraded", "Unschedulable"))["message"])
        return said.startswith("10 of 30 pods of web are missing: 0/20 nodes are available: 20 Insufficient cpu")

    await until(told)
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert [await place.bounds(name) for name in ("readers", "web")] == [(4, 20), (3, 20)]
    assert not place.refusals()


@slow
async def test_an_autoscaler_that_is_deleted_during_a_spike_is_told_of_and_what_it_held_is_given_back(
    place: Operated,
) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    await place.admin.delete(place.autoscaler("web"))
    degraded = await place.says(path, "Degraded", "AutoscalerGone")
    assert (degraded["status"], degraded["message"]) == ("True", "the autoscaler of web is gone")
    assert (await place.bounds("readers"))[0] == 20
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.bounds("readers") == (4, 20)
    await until(lambda: place.ready("web", 3))


@slow
async def test_actions_whose_targets_are_missing_of_another_kind_or_elsewhere_are_named_and_the_others_go_on(
    place: Operated,
) -> None:
    await led_with_targets(place)
    elsewhere, odd = scales("web", 10), scales("daemon", 2)
    elsewhere["scale"]["targetRef"]["namespace"] = "default"
    odd["scale"]["targetRef"]["kind"] = "DaemonSet"
    policy = await place.policy(actions=[elsewhere, odd, scales("nobody", 2), scales("readers", 5)])
    ready = await place.says(f"{place.policies}/default", "Ready", "ActionsUnusable")
    assert ready["status"] == "False"
    assert ready["message"].split("; ") == [
        "DaemonSet daemon is of a kind that is not scaled",
        "Deployment nobody does not exist",
        "Deployment web is in the namespace default, not in the policy's own",
    ]
    path = await place.spike("vs-a", policy)
    await place.comes_to(path, "Holding")
    assert await place.ready("readers", 20)
    assert {each.partition("/")[2] for each in place.foreign()} == {"readers"}
