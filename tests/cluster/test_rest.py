"""The operator at rest: what asks nothing of it costs the API server nothing, and so keeps no raise waiting."""

from __future__ import annotations

from tests.cluster.control_plane.api import Object, until
from tests.cluster.operating import Operated, scales
from tests.cluster.raising import led_with_targets

CHANGES = 40


async def test_changes_of_targets_and_of_statuses_begin_no_pass_while_no_spike_lives(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])

    async def idle() -> bool:
        found = await place.admin.get(f"{place.policies}/default")
        return bool(found.get("status", {}).get("phase") == "Idle")

    await until(idle)
    for number in range(CHANGES):
        await place.admin.patch(place.deployment("web"), {"metadata": {"annotations": {"turn": str(number)}}})
        await place.admin.patch(f"{place.policies}/default/status", {"status": {"source": {"lag": number}}})
    await place.comes_to(await place.spike("vs-a", policy), "Holding")
    assert len(_passes_meanwhile(place)) < 2  # one may have begun when the policy was made


def _passes_meanwhile(place: Operated) -> list[Object]:
    """The operator's lists of Deployments, one in each pass, between the first of those changes and the spike."""
    events = place.plane.audit(place.namespace)
    ours = [each for each in events if each.get("objectRef", {}).get("namespace") == place.namespace]
    changed = [each["stageTimestamp"] for each in ours if each["verb"] == "patch" and _about(each) == "deployments"]
    made = [
        each["requestReceivedTimestamp"] for each in ours if each["verb"] == "create" and _about(each) == "viralspikes"
    ]
    asked = [each for each in ours if each.get("userAgent", "").startswith("groundswell-operator/")]
    lists = [each for each in asked if each["verb"] == "list" and _about(each) == "deployments"]
    return [each for each in lists if changed[0] < each["requestReceivedTimestamp"] < made[0]]


def _about(event: Object) -> str:
    return str(event["objectRef"]["resource"])
