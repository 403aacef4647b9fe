"""What the API server takes and refuses of the operator's two kinds, and what it says then."""

from __future__ import annotations

import copy
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import releasing
from groundswell_operator.policies import (
    Budget,
    Cooldown,
    Level,
    Match,
    Mode,
    Notice,
    OnExhausted,
    Patch,
    Policy,
    Scale,
    Target,
    Via,
)
from groundswell_operator.rehearsing import files
from tests.cluster.chart import BEFORE, render
from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.forms import slow
from tests.cluster.operating import CRDS

pytestmark = pytest.mark.usefixtures("kinds")

GROUP = "groundswell.dev/v1alpha1"
TIME = "2026-11-25T06:00:00Z"

SCALE: Object = {"targetRef": {"kind": "Deployment", "name": "gateway"}, "multiplier": 10, "max": 300}
POLICY: Object = {
    "apiVersion": GROUP,
    "kind": "ViralSpikePolicy",
    "metadata": {"name": "default"},
    "spec": {"actions": [{"name": "web", "scale": SCALE}]},
}
SPIKE: Object = {
    "apiVersion": GROUP,
    "kind": "ViralSpike",
    "metadata": {"name": "vs-00000000000000aa"},
    "spec": {
        "spikeId": "00000000000000aa",
        "tenant": "acme",
        "kind": "link",
        "item": "links/7",
        "detectedAt": TIME,
        "evidence": {"projectedViewsHour": 12_000_000},
        "kafka": {"partition": 0, "offset": 0},
    },
}


@pytest.fixture
def policies(namespace: str) -> str:
    return f"/apis/{GROUP}/namespaces/{namespace}/viralspikepolicies"


@pytest.fixture
def spikes(namespace: str) -> str:
    return f"/apis/{GROUP}/namespaces/{namespace}/viralspikes"


def changed(value: Object, path: str, new: Any) -> Object:
    """A copy with `new` at a path such as spec.actions.0.scale.max."""
    found = copy.deepcopy(value)
    *way, last = [int(each) if each.isdigit() else each for each in path.split(".")]
    place: Any = found
    for each in way:
        place = place.setdefault(each, {}) if isinstance(place, dict) else place[each]
    place[last] = new
    return found


async def test_the_least_policy_observes_and_has_every_bound(admin: Api, policies: str) -> None:
    spec = (await admin.create(policies, POLICY))["spec"]
    assert spec["mode"] == "Observe"
    assert spec["match"]["minLevel"] == "VIRAL"
    assert spec["maxRecordAge"] == "120s"
    assert spec["actions"][0]["scale"]["via"] == "HPAFloor"
    assert spec["cooldown"] == {"quietPeriod": "15m", "stepFactor": 0.5, "stepInterval": "60s", "minHold": "10m"}
    assert spec["budget"] == {
        "maxConcurrentSpikes": 3,
        "maxExtraReplicas": 500,
        "maxReplicaMinutesPerDay": 60_000,
        "maxSpikeDuration": "6h",
        "onExhausted": "Clamp",
    }
    assert (spec["onSourceLoss"], spec["restore"]) == ("HoldIfHigher", "Baseline")


async def test_a_policy_in_a_file_is_filled_in_as_the_api_server_does_it(
    admin: Api, policies: str, tmp_path: Path
) -> None:
    actions = [{"name": "web", "scale": SCALE}, {"name": "tell", "notify": {"webhookSecretRef": {"name": "hook"}}}]
    asked = POLICY | {"spec": {"match": {"minLevel": "HOT"}, "actions": actions, "cooldown": {"minHold": "20m"}}}
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(asked))
    assert files.policy(file)["spec"] == (await admin.create(policies, asked))["spec"]


async def test_a_served_policy_is_read_as_it_is(admin: Api, policies: str) -> None:
    actions = [
        {"name": "web", "order": 1, "scale": SCALE},
        {"name": "tell", "notify": {"webhookSecretRef": {"name": "hook"}}},
        {"name": "cache", "configMapPatch": {"name": "flags", "data": {"ttl": "60"}}},
        {"name": "readers", "scale": SCALE | {"targetRef": {"kind": "Deployment", "name": "links"}, "multiplier": 2.5}},
    ]
    match = {"tenants": ["acme"], "minLevel": "HOT", "minConfidence": 0.95}
    asked = POLICY | {"spec": {"mode": "Enforce", "match": match, "actions": actions, "restore": "Keep"}}
    assert Policy.of(await admin.create(policies, asked)) == Policy(
        name="default",
        mode=Mode.ENFORCE,
        match=Match(frozenset({"acme"}), frozenset(), Level.HOT, 0, 0.95, 0),
        record_age_s_max=120,
        scales=[
            Scale("readers", 0, Target("apps/v1", "Deployment", "links"), 2.5, 300, Via.HPA_FLOOR),
            Scale("web", 1, Target("apps/v1", "Deployment", "gateway"), 10, 300, Via.HPA_FLOOR),
        ],
        cooldown=Cooldown(quiet_period_s=900, step_factor=0.5, step_interval_s=60, min_hold_s=600),
        budget=Budget(3, 500, 60_000, 21_600, OnExhausted.CLAMP),
        restores=False,
        patches=[Patch("cache", 0, "flags", {"ttl": "60"})],
        notices=[Notice("tell", 0, "hook", "url", 900)],
    )


TWICE = [{"name": "web", "scale": SCALE}, {"name": "web", "notify": {"webhookSecretRef": {"name": "hook"}}}]
SAME_TARGET = [{"name": "web", "scale": SCALE}, {"name": "again", "scale": SCALE}]
BOTH = [{"name": "web", "scale": SCALE, "notify": {"webhookSecretRef": {"name": "hook"}}}]
NAME = "must be an object's name, in lower-case letters, digits, dashes and dots"
ELSEWHERE = [{"name": "cache", "configMapPatch": {"name": "../pods", "data": {"ttl": "60"}}}]
HOOK = [{"name": "tell", "notify": {"webhookSecretRef": {"name": "hook/../other"}}}]
DURATION = "must be a whole number of s, m or h up to 24h, such as 90s"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.actions.0.scale.multiplier", 0.5, "must be between 1 and 20"),
        ("spec.actions.0.scale.multiplier", 20.5, "must be between 1 and 20"),
        ("spec.actions.0.scale.max", 0, "must be between 1 and 10000 replicas"),
        ("spec.actions.0.scale.via", "Magic", 'supported values: "HPAFloor", "ScaleSubresource"'),
        ("spec.actions.0.name", "Web!", "must be lower-case letters, digits and dashes"),
        ("spec.actions.0.order", 101, "must be between 0 and 100"),
        ("spec.actions", TWICE, r'spec.actions\[1\]: Duplicate value: {"name":"web"}'),
        ("spec.actions", SAME_TARGET, "must scale each target in one action only"),
        ("spec.actions", BOTH, "must have exactly one of scale, configMapPatch and notify"),
        ("spec.actions", [{"name": "web"}], "must have exactly one of scale, configMapPatch and notify"),
        ("spec.actions", [], "should have at least 1 items"),
        ("spec.actions", ELSEWHERE, NAME),
        ("spec.actions", HOOK, NAME),
        ("spec.actions.0.scale.targetRef.name", "..", NAME),
        ("spec.actions.0.scale.targetRef.name", "web-.x", NAME),
        ("spec.mode", "Dry", 'supported values: "Observe", "Approve", "Enforce"'),
        ("spec.match.minLevel", "SUSPECT", 'supported values: "RISING", "VIRAL", "HOT"'),
        ("spec.match.minConfidence", 1.5, "must be between 0 and 1"),
        ("spec.match.minProjectedViewsHour", -1, "must be 0 or more views"),
        ("spec.match.minDistinctUsers", -1, "must be 0 or more users"),
        ("spec.maxRecordAge", "2 minutes", DURATION),
        ("spec.maxRecordAge", "0s", DURATION),
        ("spec.cooldown.quietPeriod", "25h", DURATION),
        ("spec.cooldown.minHold", "soon", DURATION),
        ("spec.cooldown.minHold", "59s", "minHold must be as long as stepInterval or longer"),
        ("spec.cooldown.stepFactor", 0.6, "must be above 0 and at most 0.5"),
        ("spec.cooldown.stepFactor", 0, "must be above 0 and at most 0.5"),
        ("spec.budget.maxConcurrentSpikes", 0, "must be between 1 and 100 spikes"),
        ("spec.budget.maxExtraReplicas", 0, "must be between 1 and 10000 replicas"),
        ("spec.budget.maxReplicaMinutesPerDay", 0, "must be 1 replica-minute or more"),
        ("spec.ttlSecondsAfterFinished", -1, "must be between 0 and 31536000 seconds"),
        ("spec.budget.onExhausted", "Ignore", 'supported values: "Clamp", "Reject", "NotifyOnly"'),
    ],
)
async def test_a_policy_outside_its_bounds_is_refused_with_what_is_allowed(
    admin: Api, policies: str, path: str, value: Any, message: str
) -> None:
    with pytest.raises(Refused, match=message) as refusal:
        await admin.create(policies, changed(POLICY, path, value))
    assert refusal.value.status == 422
    assert "rule evaluation error" not in refusal.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.actions.0.scale.multiplier", 1),
        ("spec.actions.0.scale.multiplier", 20),
        ("spec.actions.0.scale.multiplier", 2.5),
        ("spec.actions.0.scale.targetRef.name", "a.1-b.c"),
        ("spec.cooldown.minHold", "60s"),
        ("spec.cooldown.stepFactor", 0.5),
        ("spec.maxRecordAge", "24h"),
        ("spec.match", {"tenants": ["acme"], "kinds": ["link", "post"], "minConfidence": 0.95}),
    ],
)
async def test_a_policy_at_its_bounds_is_taken(admin: Api, policies: str, path: str, value: Any) -> None:
    await admin.create(policies, changed(POLICY, path, value))


@slow
async def test_a_policy_of_the_version_before_that_would_be_refused_now_is_served_and_written_as_ever(
    control_plane: ControlPlane, admin: Api, namespace: str, tmp_path: Path
) -> None:
    """Method: the kinds of both versions, one after the other, in a group of their own, since the others' are served meanwhile."""
    group, kinds = f"{secrets.token_hex(4)}.example", render({}, folder=releasing.archive(BEFORE))
    before = kinds.one("CustomResourceDefinition", "viralspikepolicies.groundswell.dev")
    now = yaml.safe_load((CRDS / "viralspikepolicies.yaml").read_text())
    path = f"/apis/{group}/v1alpha1/namespaces/{namespace}/viralspikepolicies"
    old = changed(POLICY, "apiVersion", f"{group}/v1alpha1") | {
        "spec": {"actions": [*POLICY["spec"]["actions"], *ELSEWHERE, *HOOK]}
    }
    try:
        _serve(control_plane, tmp_path, before, group)
        await admin.create(path, old)
        _serve(control_plane, tmp_path, now, group)

        async def refused() -> bool:
            try:
                await admin.create(path, changed(old, "metadata.name", f"new-{secrets.token_hex(4)}"))
            except Refused as refusal:
                return NAME in refusal.message
            return False

        await until(refused)
        status = {"phase": "Idle", "activeSpikes": 0}
        assert (await admin.patch(f"{path}/default/status", {"status": status}))["status"] == status
        assert (await admin.patch(f"{path}/default", {"spec": {"mode": "Enforce"}}))["spec"]["mode"] == "Enforce"
        with pytest.raises(Refused, match=NAME):
            await admin.patch(
                f"{path}/default",
                {"spec": {"actions": changed({"a": ELSEWHERE}, "a.0.configMapPatch.name", "../x")["a"]}},
            )
    finally:
        control_plane.kubectl("delete", "crd", f"viralspikepolicies.{group}", "--ignore-not-found")


def _serve(plane: ControlPlane, folder: Path, kind: Object, group: str) -> None:
    """Has the API server serve a kind as if it were of another group."""
    name, file = f"viralspikepolicies.{group}", folder / "kind.json"
    spec = kind["spec"] | {"group": group}
    spec["names"] = {each: value for each, value in spec["names"].items() if each != "shortNames"}
    file.write_text(json.dumps({**kind, "metadata": {"name": name}, "spec": spec}))
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")


async def test_what_was_detected_cannot_be_changed(admin: Api, spikes: str) -> None:
    made = await admin.create(spikes, SPIKE)
    path = f"{spikes}/{made['metadata']['name']}"
    with pytest.raises(Refused, match="is what was detected and cannot be changed"):
        await admin.patch(path, {"spec": {"evidence": {"projectedViewsHour": 1}}})


@pytest.mark.parametrize("identifier", ["", "00000000000000AA", "0" * 15, "0" * 17])
async def test_a_spike_without_a_proper_id_is_refused(admin: Api, spikes: str, identifier: str) -> None:
    with pytest.raises(Refused, match=r"must be 16 hex digits|may not be more than 16"):
        await admin.create(spikes, changed(SPIKE, "spec.spikeId", identifier))


async def test_a_spike_is_told_of_with_its_level_and_is_rising_otherwise(admin: Api, spikes: str) -> None:
    made = await admin.create(spikes, SPIKE)
    assert made["spec"]["level"] == "RISING"
    told = changed(changed(SPIKE, "spec.level", "HOT"), "metadata.name", "vs-hot")
    path = f"{spikes}/{(await admin.create(spikes, told))['metadata']['name']}"
    with pytest.raises(Refused, match=r"cannot be changed; what rises later is in status\.level"):
        await admin.patch(path, {"spec": {"level": "RISING"}})
    with pytest.raises(Refused, match='supported values: "RISING", "VIRAL", "HOT"'):
        await admin.create(spikes, changed(SPIKE, "spec.level", "SUSPECT"))


async def test_a_level_rises_and_never_falls_or_goes(admin: Api, spikes: str) -> None:
    status = f"{spikes}/{(await admin.create(spikes, SPIKE))['metadata']['name']}/status"
    for level in ("RISING", "VIRAL", "VIRAL", "HOT"):
        await admin.patch(status, {"status": {"level": level}})
    with pytest.raises(Refused, match="must not fall; RISING, VIRAL, HOT is the way up"):
        await admin.patch(status, {"status": {"level": "VIRAL"}})
    with pytest.raises(Refused, match="must keep its level"):
        await admin.patch(status, {"status": {"level": None}})


STATUS: Object = {
    "observedGeneration": 1,
    "phase": "Holding",
    "level": "VIRAL",
    "over": TIME,
    "mode": "Enforce",
    "desired": 30,
    "ready": 27,
    "targets": [
        {
            "name": "web",
            "baseline": {"replicas": 3, "hpaMin": 3, "hpaMax": 60, "unset": ["hpaMax"], "resourceVersion": "812"},
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"},
            "order": 1,
            "max": 300,
            "desired": 30,
            "ready": 27,
            "appliedAt": TIME,
            "readyAt": TIME,
            "steppedAt": TIME,
            "wouldHave": {
                **dict.fromkeys(("pods", "podsAlone", "podsNow", "replicaMinutes", "replicaMinutesAlone"), 7),
                **dict.fromkeys(("secondsEarlier", "replicaSeconds", "replicaSecondsAlone"), 4.5),
                **dict.fromkeys(("countedAt", "reachedAt"), TIME),
            },
        }
    ],
    "patches": [{"name": "cache", "configMap": "flags", "data": {"ttl": "60", "stale": "yes"}, "before": {"ttl": "5"}}],
    "notices": {"chat": {"attempts": 2, "triedAt": TIME, "sentAt": TIME, "repeats": "vs-b", "failure": "answered 500"}},
    "timeline": {
        **dict.fromkeys(("detected", "decided", "firstWrite", "ready", "restored"), TIME),
        "timeToDecide": "0.02s",
        "timeToReady": "1.4s",
    },
    "conditions": [
        {
            "type": "Scaled",
            "status": "True",
            "reason": "FloorRaised",
            "message": "30",
            "lastTransitionTime": TIME,
            "observedGeneration": 1,
        }
    ],
}


async def test_every_field_of_a_status_survives_and_only_through_its_own_door(admin: Api, spikes: str) -> None:
    path = f"{spikes}/{SPIKE['metadata']['name']}"
    made = await admin.create(spikes, SPIKE | {"status": STATUS})
    assert "status" not in made
    assert (await admin.patch(f"{path}/status", {"status": STATUS}))["status"] == STATUS


async def test_every_field_of_a_policys_status_survives(admin: Api, policies: str) -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Active",
        "activeSpikes": 1,
        "dismissed": [{"name": "vs-0123456789abcdef", "at": TIME}],
        "source": {"lag": 4, "lastRecordTime": TIME},
        "budget": {
            "day": "2026-11-25",
            "accountedAt": TIME,
            "extraReplicas": 27,
            "replicaSecondsUsed": 5400.5,
            "replicaMinutesUsed": 90,
            "replicaMinutesLeft": 59_910,
        },
        "conditions": STATUS["conditions"],
    }
    await admin.create(policies, POLICY)
    assert (await admin.patch(f"{policies}/default/status", {"status": status}))["status"] == status


async def test_kubectl_shows_what_matters_under_short_names(
    control_plane: ControlPlane, admin: Api, namespace: str, spikes: str, policies: str
) -> None:
    await admin.create(policies, POLICY)
    await admin.create(spikes, SPIKE)
    await admin.patch(f"{spikes}/{SPIKE['metadata']['name']}/status", {"status": STATUS})
    heads = {"vsp": "NAME MODE PHASE ACTIVE READY BUDGET AGE", "vs": "NAME ITEM PHASE DESIRED READY TTD TTR AGE"}
    shown = {name: control_plane.kubectl("get", name, "-n", namespace).splitlines() for name in heads}
    assert {name: " ".join(lines[0].split()) for name, lines in shown.items()} == heads
    assert shown["vsp"][1].split()[:2] == ["default", "Observe"]
    assert shown["vs"][1].split()[1:7] == ["links/7", "Holding", "30", "27", "0.02s", "1.4s"]
