"""Objects that are not as their schema says, such as those of another version: they are left as they are, and keep nobody else waiting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import Counter

from groundswell_operator.applying import reading, scalers, statuses, webhooks
from groundswell_operator.applying.listing import Listing
from groundswell_operator.applying.reading import FINALIZER, GROUP, Paths
from groundswell_operator.applying.scaled_objects import ScaledObjects
from groundswell_operator.bridge.intake import Intake
from groundswell_operator.metrics import Metrics
from groundswell_operator.policies import APPS, Mode, Target
from groundswell_operator.saga.admitting import unusable_actions
from groundswell_operator.saga.policies import noted
from groundswell_operator.saga.state import Delivery, Notes, Phase, Progress, Spike, Unread
from groundswell_operator.saga.steps import LetGo, SetKeys
from tests.operators.passing import BEFORE, bounds, flags, phase, raised, run_for
from tests.operators.serving import Answer, Asked, answering
from tests.operators.world import FLAGS, VALUES, WEB, World, governing, telling

ACTION = {
    "name": "web",
    "order": 0,
    "scale": {
        "targetRef": {"apiVersion": APPS, "kind": "Deployment", "name": "web"},
        "multiplier": 10,
        "max": 300,
        "via": "HPAFloor",
    },
}
SPEC: dict[str, Any] = {
    "mode": "Enforce",
    "match": {"minLevel": "VIRAL", "minProjectedViewsHour": 0, "minConfidence": 0, "minDistinctUsers": 0},
    "maxRecordAge": "120s",
    "actions": [ACTION],
    "cooldown": {"quietPeriod": "15m", "stepFactor": 0.5, "stepInterval": "60s", "minHold": "10m"},
    "budget": {
        "maxConcurrentSpikes": 3,
        "maxExtraReplicas": 500,
        "maxReplicaMinutesPerDay": 60_000,
        "maxSpikeDuration": "6h",
        "onExhausted": "Clamp",
    },
    "restore": "Baseline",
    "ttlSecondsAfterFinished": 604_800,
}
SPIKE: dict[str, Any] = {
    "tenant": "acme",
    "kind": "link",
    "item": "links/7",
    "detectedAt": "2026-11-25t10:00:00.5z",
    "evidence": {"projectedViewsHour": 1},
}


def made(name: str, **parts: Any) -> dict[str, Any]:
    """An object as an API server has it."""
    metadata = {
        "name": name,
        "namespace": "here",
        "uid": name,
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": "2026-11-25T10:00:01Z",
        "finalizers": [FINALIZER],
    }
    return {"metadata": metadata, **parts}


def scaler() -> dict[str, Any]:
    """An autoscaler whose metric nobody has heard of."""
    metric = {"type": "Odd", "odd": {"name": "cpu"}}
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 3, "maxReplicas": 9}
    conditions = [{"type": "ScalingActive", "status": "True"}]
    current = [{"type": "Odd", "odd": {"name": "cpu"}}]
    return made("web", spec={**spec, "metrics": [metric]}, status={"conditions": conditions, "currentMetrics": current})


OBJECTS = {
    "viralspikepolicies": [made("good", spec=SPEC), made("odd", spec={**SPEC, "mode": "Sometimes"})],
    "viralspikes": [
        made("good", spec=SPIKE),
        made(
            "odd",
            spec={**SPIKE, "detectedAt": "2026-11-25T10:00:00x5Z"},
            status={"targets": [{"targetRef": ACTION["scale"]["targetRef"]}], "patches": [{"configMap": FLAGS}]},  # type: ignore[index]
        ),
    ],
    "deployments": [made("web", spec={"replicas": 3}), made("readers", spec={"replicas": 4})],
    "statefulsets": [],
    "horizontalpodautoscalers": [scaler()],
}


def listed(asked: Asked) -> Answer:
    if "/leases/" in asked.path or asked.path.endswith("/scaledobjects"):
        return 404, {"message": "not found"}
    return 200, {"metadata": {}, "items": OBJECTS[asked.path.rpartition("/")[2]]}


@pytest.mark.parametrize("name", ["../pods", "flags/../../secrets/hook", "..", "", "Flags", "a" * 254])
async def test_what_cannot_be_a_name_leads_no_request_elsewhere_and_the_policy_says_so(name: str) -> None:
    """Of policies that were stored before their schema refused it. The pods are what a list of them would answer."""
    actions = [
        {"name": "cache", "order": 0, "configMapPatch": {"name": name, "data": {"ttl": "60"}}},
        {
            "name": "chat",
            "order": 0,
            "notify": {"webhookSecretRef": {"name": name, "key": "url"}, "dedupeWindow": "15m"},
        },
    ]
    policies = [made("default", spec={**SPEC, "actions": actions})]
    objects = OBJECTS | {"viralspikepolicies": policies, "pods": [], "viralspikes": [made("good", spec=SPIKE)]}

    def listing(asked: Asked) -> Answer:
        return (200, {"metadata": {}, "items": objects[kind]}) if (kind := _kind(asked)) in objects else (404, {})

    async with answering(listing) as (server, requests):
        paths = Paths("here")
        state = await reading.read(
            requests, paths, ScaledObjects(requests, paths.scaled_objects), Listing(requests, paths.spikes).listed
        )
        governing = state.policies["default"]
        with pytest.raises(webhooks.NotSent, match="a Secret that cannot be"):
            await webhooks.send(requests, paths, "here", state.spikes["good"], governing.policy.notices[0])
    assert {_kind(each) for each in server.asked} <= {*OBJECTS, "groundswell-bridge", "scaledobjects"}
    (why,) = unusable_actions(governing, state)
    assert why == f"cache names a ConfigMap that cannot be: {name}"


@pytest.mark.parametrize(("uid", "dismissed"), [("default", {"good"}), ("the one before", set())])
async def test_a_policy_that_was_replaced_dismisses_none_of_the_spikes_of_the_one_before(
    uid: str, dismissed: set[str]
) -> None:
    """What was deleted with that one may come again for this one. The control is a spike of its own that somebody deletes."""
    deleted = made("good", spec=SPIKE, status={"phase": "Holding", "mode": "Enforce", "level": "VIRAL"})
    owner = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "name": "default", "uid": uid}
    deleted["metadata"] |= {"deletionTimestamp": "2026-11-25T10:00:02Z", "ownerReferences": [owner]}
    policies = [made("default", spec=SPEC)]
    objects = OBJECTS | {"viralspikepolicies": policies, "viralspikes": [deleted], "pods": []}

    def listing(asked: Asked) -> Answer:
        return (200, {"metadata": {}, "items": objects[kind]}) if (kind := _kind(asked)) in objects else (404, {})

    async with answering(listing) as (_, requests):
        paths = Paths("here")
        state = await reading.read(
            requests, paths, ScaledObjects(requests, paths.scaled_objects), Listing(requests, paths.spikes).listed
        )
    now_s = (state.spikes["good"].deleted_s or 0) + 1
    assert noted(state.policies["default"], state, now_s).dismissed.keys() == dismissed


def _kind(asked: Asked) -> str:
    return asked.path.rpartition("/")[2]


async def test_one_odd_policy_spike_and_autoscaler_are_named_and_the_rest_is_read() -> None:
    async with answering(listed) as (_, requests):
        paths = Paths("here")
        scaled_objects = ScaledObjects(requests, paths.scaled_objects)
        state = await reading.read(requests, paths, scaled_objects, Listing(requests, paths.spikes).listed)
    assert list(state.policies) == ["good"]
    assert state.unread_policies == {"odd"}
    assert state.spikes["good"].unread is None
    odd = state.spikes["odd"].unread
    assert odd is not None
    assert odd.targets == frozenset({WEB})
    assert odd.config_maps == frozenset({FLAGS})
    web = state.targets[Target(APPS, "Deployment", "web")].autoscaler
    assert web is not None
    assert (web.floor, web.wants) == (3, None)
    metrics = Metrics()
    metrics.state(state)
    assert b'groundswell_operator_unreadable_objects{kind="ViralSpike"} 1.0' in metrics.text()
    assert b'groundswell_operator_unreadable_objects{kind="ViralSpikePolicy"} 1.0' in metrics.text()


async def test_the_bridge_passes_over_an_odd_policy() -> None:
    async with answering(listed) as (_, requests):
        found = await Intake(requests, "here", Counter("records", "Records.", ["outcome"], registry=None)).policies()
    assert [each.policy.name for each in found] == ["good"]


@pytest.mark.parametrize("said", ["2026-11-25T10:00:00.500Z", "2026-11-25t10:00:00.5z", "2026-11-25T11:00:00.5+01:00"])
def test_every_way_to_write_a_moment_is_read(said: str) -> None:
    assert statuses.moment(statuses.seconds_of(said)) == "2026-11-25T10:00:00.500Z"


@pytest.mark.parametrize(("quantity", "number"), [("1500m", 1.5), ("2Ti", 2**41), ("3P", 3e15), ("1e3", 1_000)])
def test_every_unit_of_a_quantity_is_read(quantity: str, number: float) -> None:
    used = {"type": "External", "external": {"metric": {"name": "q"}, "current": {"averageValue": quantity}}}
    target = {"type": "AverageValue", "averageValue": str(int(number * 1_000)) + "m"}
    value = made(
        "web",
        spec={"metrics": [{"type": "External", "external": {"metric": {"name": "q"}, "target": target}}]},
        status={
            "conditions": [{"type": "ScalingActive", "status": "True"}],
            "currentMetrics": [used],
            "currentReplicas": 5,
        },
    )
    assert scalers.wants(value) == 5


async def test_what_an_odd_spike_may_hold_is_left_as_it_is_and_named_and_the_others_go_on() -> None:
    narrow = telling("narrow")
    scales = [each for each in narrow.policy.scales if each.target == WEB]
    narrow = dataclasses.replace(narrow, policy=dataclasses.replace(narrow.policy, scales=scales))
    world = raised(World(telling(), narrow), "odd", policy="narrow")
    await run_for(world, 15)
    held = world.state.spikes["odd"]
    unread = Unread("KeyError", frozenset({WEB}), frozenset({FLAGS}))
    world.put(dataclasses.replace(held, progress=type(held.progress)(), unread=unread))
    world.done.clear()
    await run_for(raised(world, "b"), 15)
    assert bounds(world)["web"] == (30, 30, 30)
    assert {claim.action for claim in world.state.spikes["b"].progress.claims} == {"readers", "workers"}
    assert not [step for step in world.done if isinstance(step, SetKeys)]
    assert flags(world)["ttl"] == "60"
    ready = world.state.policies["default"].notes.conditions["Ready"]
    assert ready.message == (
        "web may be held by odd, which cannot be read; ConfigMap flags may be held by odd, which cannot be read"
    )
    world.put(dataclasses.replace(world.state.spikes["odd"], unread=None, progress=held.progress))
    for name in ("odd", "b"):
        world.delete(name)
    await run_for(world, 5)
    assert (bounds(world), flags(world)) == (BEFORE, VALUES)


async def test_a_spike_whose_phase_a_person_has_written_keeps_no_other_waiting_and_is_over() -> None:
    """`kubectl patch … {"status": {"phase": "CoolingDown"}}`: of one that has raised nothing, so nothing says why it cools down."""
    world = raised(World(governing()), "patched")
    held = world.state.spikes["patched"]
    world.put(dataclasses.replace(held, progress=Progress(Phase.COOLING_DOWN)))
    await run_for(raised(world, "b"), 15)
    assert phase(world, "patched") is Phase.RESTORED
    assert phase(world, "b") is Phase.HOLDING
    world.delete("b")
    await run_for(world, 5)
    assert bounds(world) == BEFORE


NOTHING: Any = None
"""Where a value must be."""
ODD: Any = "yesterday"
"""Where a number must be."""


@pytest.mark.parametrize(
    "odd",
    [
        lambda spike: dataclasses.replace(spike, evidence=NOTHING),
        lambda spike: dataclasses.replace(spike, progress=Progress(Phase.HOLDING, conditions=NOTHING)),
        lambda spike: dataclasses.replace(spike, progress=Progress(Phase.HOLDING, Mode.ENFORCE, decided_s=ODD)),
        lambda spike: dataclasses.replace(
            spike, notices={"chat": Delivery(1, ODD)}, progress=Progress(Phase.HOLDING, Mode.ENFORCE)
        ),
    ],
)
@pytest.mark.parametrize("count", [1, 12])
async def test_spikes_that_nothing_can_be_decided_of_keep_no_other_waiting(
    odd: Callable[[Spike], Spike], count: int
) -> None:
    world = World(telling(), telling("odd"))
    for number in range(count):
        raised(world, f"odd{number}", policy="odd")
        world.put(odd(world.state.spikes[f"odd{number}"]))
    await run_for(raised(world, "b"), 15)
    assert bounds(world)["web"] == (30, 30, 30)
    world.over("b")
    await run_for(world, 200)
    assert phase(world, "b") is Phase.RESTORED
    assert bounds(world) == BEFORE
    assert world.notices == [("b", "chat")]
    assert len(world.state.spikes) == count + 1


async def test_a_live_spike_that_nothing_can_be_decided_of_keeps_what_it_holds_until_it_is_deleted() -> None:
    world = raised(World(governing()), "odd")
    await run_for(world, 40)
    held = world.state.spikes["odd"]
    senseless = [dataclasses.replace(each, stepped_s=ODD) for each in held.progress.claims]
    progress = dataclasses.replace(held.progress, claims=senseless)
    world.put(dataclasses.replace(held, progress=progress, over_s=world.clock()))
    await run_for(raised(world, "b"), 15)
    world.over("b")
    await run_for(world, 200)
    assert phase(world, "b") is Phase.RESTORED
    assert bounds(world)["web"] == (30, 30, 30)
    world.delete("odd")
    await run_for(world, 5)
    assert not world.state.spikes.keys() - {"b"}
    assert bounds(world) == BEFORE


async def test_what_a_live_spike_may_hold_whose_claims_make_no_sense_is_left_as_it_is_and_the_others_go_on() -> None:
    narrow = governing("narrow")
    scales = [each for each in narrow.policy.scales if each.target == WEB]
    narrow = dataclasses.replace(narrow, policy=dataclasses.replace(narrow.policy, scales=scales))
    world = raised(World(governing(), narrow), "odd", policy="narrow")
    await run_for(world, 15)
    held = world.state.spikes["odd"]
    senseless = [dataclasses.replace(each, desired=NOTHING) for each in held.progress.claims]
    world.put(dataclasses.replace(held, progress=dataclasses.replace(held.progress, claims=senseless)))
    await run_for(raised(world, "b"), 15)
    assert {claim.action for claim in world.state.spikes["b"].progress.claims} == {"readers", "workers"}
    ready = world.state.policies["default"].notes.conditions["Ready"]
    assert ready.message == "web may be held by odd, which cannot be read"
    world.delete("b")
    await run_for(world, 5)
    assert bounds(world) == {**BEFORE, "web": (30, 30, 30)}


@pytest.mark.parametrize("part", ["match", "scales", "cooldown", "budget", "mode"])
async def test_a_policy_that_nothing_can_be_decided_of_keeps_no_other_waiting(part: str) -> None:
    odd = governing("odd")
    world = World(governing(), dataclasses.replace(odd, policy=dataclasses.replace(odd.policy, **{part: NOTHING})))
    raised(world, "of-odd", policy="odd")
    await run_for(raised(world), 40)
    assert bounds(world)["web"] == (30, 30, 30)
    world.over("a")
    await run_for(world, 200)
    assert phase(world) is Phase.RESTORED


@pytest.mark.promise("OPERATOR-12")
async def test_the_finalizer_of_an_odd_spike_is_given_up_after_five_minutes() -> None:
    world = raised(World(governing()), "odd")
    await run_for(world, 5)
    held = world.state.spikes["odd"]
    unread = Unread("KeyError", frozenset({WEB}))
    world.put(dataclasses.replace(held, progress=type(held.progress)(), unread=unread))
    world.delete("odd")
    await run_for(world, 295)
    assert world.state.spikes
    await run_for(world, 10)
    assert not world.state.spikes
    assert [each.condition.reason for step in world.done if isinstance(step, LetGo) for each in step.told] == [
        "GivenUp"
    ]


async def test_what_is_raised_under_a_policy_that_cannot_be_read_is_held() -> None:
    world = raised(World(governing()))
    await run_for(world, 40)
    policies = world.state.policies
    world.over("a")
    world.state = dataclasses.replace(world.state, policies={}, unread_policies=frozenset({"default"}))
    await run_for(world, 100)
    assert bounds(world)["web"] == (30, 30, 30)
    assert phase(world) is Phase.HOLDING
    world.state = dataclasses.replace(world.state, policies=policies, unread_policies=frozenset())
    await run_for(world, 100)
    assert phase(world) is Phase.RESTORED
    assert bounds(world) == BEFORE


def test_what_is_dismissed_is_read_back_as_it_was_written() -> None:
    notes = Notes(dismissed={"vs-a": 1_764_000_000.0, "vs-b": 1_764_000_001.0})
    assert statuses.notes(statuses.notes_status(governing(), notes)).dismissed == notes.dismissed
