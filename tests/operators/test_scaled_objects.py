"""Targets that a ScaledObject of KEDA governs: read as manifests say it, raised over a namespace in memory (`world`)."""

from __future__ import annotations

import dataclasses

import pytest

from groundswell_operator.applying import scalers, statuses
from groundswell_operator.applying.ownership import MANAGER
from groundswell_operator.applying.requests import Pace, Requests
from groundswell_operator.applying.scaled_objects import ABSENT_S, TOLD_S, ScaledObjects
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Object
from groundswell_operator.saga.state import Pauses, Phase
from tests.operators.passing import bounds, phase, raised, reconciled, run_for, writes
from tests.operators.test_requests import serving
from tests.operators.world import READERS, WEB, World, governed_by_keda

ABSENT = (0, 100)
"""The floor and ceiling of a ScaledObject that says neither."""


def scaled_object(**spec: object) -> Object:
    spec = {"scaleTargetRef": {"name": "web"}, "triggers": [{"type": "cron"}], **spec}
    return {"metadata": {"name": "visitors", "resourceVersion": "7"}, "spec": spec}


def kept(**status: object) -> Object:
    """The autoscaler that KEDA keeps for it."""
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "visitors"}
    metric = {"metric": {"name": "s0-cron"}, "target": {"type": "AverageValue", "averageValue": "1"}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 100,
        "metrics": [{"type": "External", "external": metric}],
    }
    metadata = {"name": "keda-hpa-visitors", "resourceVersion": "9", "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": spec, "status": status}


def test_a_scaled_object_that_names_no_kind_governs_a_deployment_and_its_autoscaler_says_what_it_wants() -> None:
    current = {"metric": {"name": "s0-cron"}, "current": {"averageValue": "2"}}
    seen = kept(
        conditions=[{"type": "ScalingActive", "status": "True"}],
        currentMetrics=[{"type": "External", "external": current}],
        currentReplicas=3,
    )
    found = scalers.by_target([seen], [scaled_object()])
    assert list(found) == [WEB]
    scaler = found[WEB]
    assert (scaler.kind, scaler.name, scaler.wants, scaler.unusable) == ("ScaledObject", "visitors", 6, "")
    assert (scaler.floor, scaler.ceiling, scaler.floor_set, scaler.ceiling_set) == (*ABSENT, False, False)


def test_whose_a_scaled_objects_bounds_are_is_said_by_their_fields_managers() -> None:
    value = scaled_object(minReplicaCount=30, maxReplicaCount=40)
    fields: Object = {"helm": {"f:maxReplicaCount": {}}, MANAGER: {"f:minReplicaCount": {}}}
    value["metadata"]["managedFields"] = [
        {"manager": name, "fieldsV1": {"f:spec": each}} for name, each in fields.items()
    ]
    scaler = scalers.scaled_object(value, None)
    assert (scaler.floor, scaler.ceiling, scaler.floor_set, scaler.ceiling_set) == (30, 40, True, True)
    assert (scaler.floor_ours, scaler.floor_shared, scaler.ceiling_ours) == (True, False, False)


@pytest.mark.parametrize(
    ("annotations", "spec", "reason"),
    [
        ({"paused": "true"}, {}, "the ScaledObject visitors is paused, so KEDA follows no floor of it"),
        ({"paused": ""}, {}, "the ScaledObject visitors is paused, so KEDA follows no floor of it"),
        ({"paused-replicas": "0"}, {}, "the ScaledObject visitors is paused, so KEDA follows no floor of it"),
        ({}, {"idleReplicaCount": 0}, "the ScaledObject visitors idles at 0 while its triggers are silent, whatever"),
        ({"paused": "false"}, {}, ""),
    ],
)
def test_a_scaled_object_that_would_not_follow_its_floor_is_told_from_one_that_would(
    annotations: dict[str, str], spec: dict[str, object], reason: str
) -> None:
    value = scaled_object(**spec)
    value["metadata"]["annotations"] = {f"autoscaling.keda.sh/{name}": each for name, each in annotations.items()}
    said = scalers.scaled_object(value, None).unusable
    assert said.startswith(reason)
    assert bool(said) is bool(reason)


def test_a_pause_of_one_direction_is_the_targets_own() -> None:
    value = scaled_object()
    value["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-scale-in": "true"}
    assert scalers.scaled_object(value, None).pauses == Pauses(scale_in=True)


def test_the_autoscaler_of_a_scaled_object_that_cannot_be_read_is_not_taken_for_one_of_its_own() -> None:
    scaler = scalers.by_target([kept()], None)[WEB]
    assert scaler.hidden
    assert scaler.unusable == "keda-hpa-visitors follows the ScaledObject visitors, which cannot be read"


async def test_a_cluster_without_keda_is_asked_for_scaled_objects_once_in_five_minutes() -> None:
    now_s = 0.0
    async with serving(404) as (server, client):
        found = ScaledObjects(Requests(client, Pace()), "/scaledobjects", lambda: now_s)
        for _ in range(100):
            assert await found.listed() is None
        assert len(server.asked_s) == 1
        now_s += ABSENT_S
        assert await found.listed() is None
        assert len(server.asked_s) == 2


async def test_what_tells_of_keda_has_it_asked_for_sooner_and_where_it_is_served_each_time() -> None:
    now_s = 0.0
    async with serving(404) as (server, client):
        found = ScaledObjects(Requests(client, Pace()), "/scaledobjects", lambda: now_s)
        await found.listed()
        assert await found.told_of() is None
        assert len(server.asked_s) == 1
        server.status, now_s = 200, TOLD_S
        assert await found.told_of() == []
        for _ in range(5):
            assert await found.listed() == []
        assert len(server.asked_s) == 7
        server.status = 403
        assert await found.listed() is None
        assert await found.listed() is None
        assert len(server.asked_s) == 8
        now_s += TOLD_S
        server.status = 200
        assert await found.listed() == []


@pytest.mark.promise("OPERATOR-3")
async def test_bounds_that_nobody_had_set_are_recorded_as_such_raised_and_unset_again() -> None:
    world = raised(governed_by_keda(replicas=12))
    await run_for(world, 15)
    assert bounds(world)["web"] == (120, 120, 120)
    assert writes(world, WEB) == [SetFloor(66, 100), SetScale(66), SetFloor(120, 120), SetScale(120)]
    claim = next(each for each in world.state.spikes["a"].progress.claims if each.action == "web")
    assert (claim.baseline.floor, claim.baseline.ceiling) == ABSENT
    assert not claim.baseline.floor_set
    assert not claim.baseline.ceiling_set
    assert statuses.progress(written(world)).claims == world.state.spikes["a"].progress.claims
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED
    assert writes(world, WEB)[-1] == SetFloor(*ABSENT, floor_set=False, ceiling_set=False)
    scaler = world.state.targets[WEB].autoscaler
    assert scaler is not None
    assert (scaler.floor_set, scaler.ceiling_set, scaler.floor_ours, scaler.ceiling_ours) == (False,) * 4


def written(world: World) -> Object:
    """The status of the spike, as the API server is told of it."""
    spike = world.state.spikes["a"]
    return statuses.progress_status(spike, spike.progress)


@pytest.mark.promise("OPERATOR-3")
@pytest.mark.parametrize(("floor", "is_set"), [(5, True), (0, True), (0, False)])
async def test_who_resets_a_floor_or_takes_it_away_finds_it_raised_again_and_gets_just_that_in_the_end(
    floor: int, is_set: bool
) -> None:
    world = raised(governed_by_keda(floor=2))
    await run_for(world, 15)
    world.scale(world.state.targets[WEB], floor=floor, floor_set=is_set, floor_ours=False)
    await run_for(world, 1)
    assert bounds(world)["web"][1] == 30
    world.delete("a")
    await run_for(world, 2)
    scaler = world.state.targets[WEB].autoscaler
    assert scaler is not None
    assert (scaler.floor, scaler.floor_set) == (floor, is_set)
    assert not world.state.spikes


async def test_what_somebody_sets_higher_in_a_scaled_object_stays() -> None:
    world = raised(governed_by_keda())
    await run_for(world, 15)
    world.scale(world.state.targets[WEB], floor=40, floor_ours=False)
    world.over("a")
    await run_for(world, 200)
    assert bounds(world)["web"][1] == 40
    assert world.state.spikes["a"].progress.conditions["Restored"].reason == "BaselineChanged"


async def test_a_target_whose_scaler_cannot_be_used_is_named_and_the_others_are_raised() -> None:
    world = governed_by_keda()
    world.scale(world.state.targets[WEB], unusable="the ScaledObject web is paused")
    await run_for(raised(world), 15)
    assert bounds(world)["web"] == (3, *ABSENT)
    assert bounds(world)["readers"][0] == 20
    ready = world.state.policies["default"].notes.conditions["Ready"]
    assert (ready.status, ready.message) == (False, "web cannot be raised: the ScaledObject web is paused")
    assert "web cannot be raised" in world.state.spikes["a"].progress.conditions["Admitted"].message


async def test_a_pause_in_the_middle_of_a_spike_ends_the_raise_is_told_of_and_the_floor_comes_back() -> None:
    world = raised(governed_by_keda())
    await run_for(world, 15)
    web = world.state.targets[WEB]
    world.scale(web, unusable="the ScaledObject web is paused", wants=None)
    world.show(dataclasses.replace(world.state.targets[WEB], replicas=1, ready=1))  # as KEDA was told by who paused it
    before = len(writes(world, WEB))
    world.turn = lambda: None  # type: ignore[method-assign]  # nobody follows the floor
    await run_for(world, 5)
    assert len(writes(world, WEB)) == before
    degraded = world.state.spikes["a"].progress.conditions["Degraded"]
    assert degraded.reason == "AutoscalerUnusable"
    assert degraded.message == "the floor of web does not hold: the ScaledObject web is paused"
    world.delete("a")
    await run_for(world, 2)
    assert bounds(world)["web"] == (1, *ABSENT)
    assert not world.state.spikes


async def test_a_return_waits_while_it_cannot_be_read_whose_the_floor_is() -> None:
    world = raised(governed_by_keda())
    await run_for(world, 15)
    raised_scaler = world.state.targets[WEB].autoscaler
    assert raised_scaler is not None
    hidden = dataclasses.replace(raised_scaler, hidden=True, unusable="not to be read", floor_ours=False, floor=3)
    world.show(dataclasses.replace(world.state.targets[WEB], autoscaler=hidden))
    world.delete("a")
    await run_for(world, 60)
    assert world.state.spikes
    assert bounds(world)["readers"][1] == 4
    world.show(dataclasses.replace(world.state.targets[WEB], autoscaler=raised_scaler))
    await run_for(world, 2)
    assert bounds(world)["web"][1:] == ABSENT
    assert not world.state.spikes


async def test_a_target_at_none_stays_so_and_one_that_only_cools_down_counts_as_one_pod() -> None:
    world = governed_by_keda(replicas=0)
    world.scale(world.state.targets[WEB], wants=0)
    readers = world.state.targets[READERS]
    world.scale(readers, floor=0, wants=0)
    await reconciled(raised(world))
    found = {each.action: each for each in world.state.spikes["a"].progress.claims}
    assert (found["web"].baseline.replicas, found["web"].desired) == (0, 0)
    assert not writes(world, WEB)
    assert (found["readers"].baseline.replicas, found["readers"].desired) == (1, 5)
