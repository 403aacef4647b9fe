"""A plan that is only looked at: it is what the operator does, and what cannot be read is said in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from groundswell_operator.policies import Mode
from groundswell_operator.rehearsing.rehearsal import Assumed, rehearsed
from groundswell_operator.saga.steps import SetKeys, Write
from tests.operators.passing import raised, run_for
from tests.operators.world import World, telling

POLICY = {
    "apiVersion": "groundswell.dev/v1alpha1",
    "kind": "ViralSpikePolicy",
    "metadata": {"name": "default"},
    "spec": {
        "actions": [
            {
                "name": "web",
                "order": 1,
                "scale": {"targetRef": {"kind": "Deployment", "name": "web"}, "multiplier": 10, "max": 300},
            },
            {
                "name": "live",
                "scale": {"targetRef": {"kind": "StatefulSet", "name": "live"}, "multiplier": 5, "max": 300},
            },
            {"name": "cache", "configMapPatch": {"name": "flags", "data": {"ttl": "60"}}},
            {"name": "chat", "notify": {"webhookSecretRef": {"name": "hook"}}},
        ]
    },
}
EVENT = {
    "spike": {
        "name": "spikes/00000000000000aa",
        "tenant": "acme",
        "kind": "link",
        "item": "links/7",
        "level": "VIRAL",
        "projectedViewsHour": "12000000",
        "detectedTime": "2026-11-25T10:00:00Z",
    }
}
LIVE = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "live", "annotations": {"groundswell.dev/partitions": "8"}},
    "spec": {"replicas": 2},
}
SCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "live"},
    "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "live"}, "minReplicas": 2, "maxReplicas": 6},
}
KEDAS = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "live"},
    "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "live"}, "maxReplicaCount": 6, "triggers": []},
}


def planned(
    folder: Path, policy: object, event: object, *words: str, scaler: object = SCALER
) -> subprocess.CompletedProcess[str]:
    """What the command says of them, with two objects beside."""
    for name, value in (("policy", policy), ("event", event), ("objects", {"kind": "List", "items": [LIVE, scaler]})):
        (folder / name).write_text(json.dumps(value) if name == "event" else yaml.safe_dump(value))
    files = [str(folder / name) for name in ("policy", "event", "objects")]
    command = [sys.executable, "-m", "groundswell_operator", "plan", *files, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_a_plan_is_what_the_operator_does_in_the_same_order() -> None:
    world = raised(World(telling()))
    plan = rehearsed(world.state, "a", Assumed(lasts_s=40, ready_s=1))
    await run_for(world, 40)
    world.over("a")
    await run_for(world, 160)
    done = [each for each in world.done if isinstance(each, Write | SetKeys)]
    found = [each for _, each in plan.steps if isinstance(each, Write | SetKeys)]
    assert [_words(each) for each in found] == [_words(each) for each in done]
    assert plan.extra_max == 61


def _words(step: Write | SetKeys) -> object:
    return (step.scaled.target.name, step.change) if isinstance(step, Write) else dict(step.values)


def test_a_policy_that_only_observes_has_the_same_plan() -> None:
    plans = [
        rehearsed(raised(World(telling(mode=mode))).state, "a", Assumed(lasts_s=40, ready_s=1))
        for mode in (Mode.OBSERVE, Mode.ENFORCE)
    ]
    seconds = [[second for second, _ in each.steps] for each in plans]
    assert seconds[0] == seconds[1]
    assert plans[0].replica_seconds == plans[1].replica_seconds > 0


def test_the_command_prints_the_writes_their_times_and_what_they_cost(tmp_path: Path) -> None:
    done = planned(tmp_path, POLICY, EVENT, "--replicas", "3", "--lasts", "10m", "--ready", "5s")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "default (Observe) on vs-d5c407c31a9f4f21: link 'links/7' of 'acme'",
        "VIRAL, 12,000,000 views an hour",
        "The policy only observes: none of this is written.",
        "",
        "decision: live 2 → 8, one for each partition that it reads; web 3 → 30; sets ttl in flags; tells chat",
        "",
        "      0 s  StatefulSet live: floor 8, ceiling 8",
        "      0 s  StatefulSet live: scale 8",
        "      0 s  Deployment web: scale 17",
        "      0 s  ConfigMap flags: ttl is ours",
        "      0 s  notice chat",
        "      5 s  Deployment web: scale 30",
        "     10 s  all that was raised is ready",
        "    600 s  the spike is over",
        "   1500 s  StatefulSet live: floor 5, ceiling 6",
        "   1500 s  Deployment web: scale 17",
        "   1560 s  StatefulSet live: floor 4, ceiling 6",
        "   1560 s  Deployment web: scale 10",
        "   1620 s  StatefulSet live: floor 3, ceiling 6",
        "   1620 s  Deployment web: scale 7",
        "   1680 s  StatefulSet live: floor 2, ceiling 6",
        "   1680 s  Deployment web: scale 5",
        "   1740 s  Deployment web: scale 4",
        "   1800 s  Deployment web: scale 3",
        "   1800 s  ConfigMap flags: nothing is ours",
        "   1800 s  the end: what was there before is there again",
        "",
        "cost: 33 more replicas at most (of 500),",
        "      859 replica-minutes (of 60,000 a day)",
    ]


def test_a_scaled_object_is_planned_for_as_an_autoscaler_is_and_what_it_does_not_say_is_unset_again(
    tmp_path: Path,
) -> None:
    done = planned(tmp_path, POLICY, EVENT, "--lasts", "10m", scaler=KEDAS)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line.strip() for line in done.stdout.splitlines() if "StatefulSet live" in line]
    assert said[:2] == ["0 s  StatefulSet live: floor 8, ceiling 8", "0 s  StatefulSet live: scale 8"]
    assert said[-1].endswith("StatefulSet live: floor unset, ceiling 6")


@pytest.mark.parametrize(
    ("policy", "event", "sentence"),
    [
        ({"kind": "Deployment"}, EVENT, "holds 0 policies; it must hold one ViralSpikePolicy"),
        ({**POLICY, "spec": {}}, EVENT, "is no policy that an API server takes (KeyError('actions'))"),
        ({**POLICY, "spec": {**POLICY["spec"], "mode": "Dry"}}, EVENT, "is no policy that an API server takes"),  # type: ignore[dict-item]
        (POLICY, {"spike": {"name": 7}}, "is no event of spikes"),
        (POLICY, {"spike": {**EVENT["spike"], "name": "links/7"}}, "its name is not that of a spike"),
        (POLICY, {"spike": {**EVENT["spike"], "level": "SUSPECT"}}, "tells of a suspicion only"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(
    tmp_path: Path, policy: object, event: object, sentence: str
) -> None:
    done = planned(tmp_path, policy, event)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_spike_that_the_policy_is_not_for_has_no_writes(tmp_path: Path) -> None:
    done = planned(tmp_path, POLICY, {"spike": {**EVENT["spike"], "level": "RISING"}})
    assert done.stdout.splitlines()[-1] == "decision: is not one that the policy is for"
