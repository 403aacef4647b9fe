"""The operator at rest: what asks nothing of it costs the API server nothing, and so keeps no raise waiting."""

from __future__ import annotations

import asyncio

from tests.cluster.control_plane.api import Object, until
from tests.cluster.forms import slow
from tests.cluster.operating import Operated, scales
from tests.cluster.raising import led_with_targets

CHANGES = 40
RESTS_S = 2.0
"""Who has begun no pass for so long has nothing left to do: on a busy machine what a new policy calls for takes more than one."""


@slow
async def test_changes_of_targets_and_of_statuses_begin_no_pass_while_no_spike_lives(place: Operated) -> None:
    await led_with_targets(place)
    policy = await place.policy(actions=[scales("web", 10)])

    async def idle() -> bool:
        found = await place.admin.get(f"{place.policies}/default")
        return bool(found.get("status", {}).get("phase") == "Idle")

    async def rests() -> bool:
        before = len(_passes(place))
        await asyncio.sleep(RESTS_S)
        return len(_passes(place)) == before

    await until(idle)
    await until(rests)
    for number in range(CHANGES):
        await place.admin.patch(place.deployment("web"), {"metadata": {"annotations": {"turn": str(number)}}})
        await place.admin.patch(f"{place.policies}/default/status", {"status": {"source": {"lag": number}}})
    await place.comes_to(await place.spike("vs-a", policy), "Holding")
    assert len(_passes_meanwhile(place)) < 2  # one comes each minute


def _passes_meanwhile(place: Operated) -> list[Object]:
    """Those between the first of those changes and the spike."""
    ours = _ours(place)
    changed = [each["stageTimestamp"] for each in ours if each["verb"] == "patch" and _about(each) == "deployments"]
    made = [
        each["requestReceivedTimestamp"] for each in ours if each["verb"] == "create" and _about(each) == "viralspikes"
    ]
    return [each for each in _passes(place) if changed[0] < each["requestReceivedTimestamp"] < made[0]]


def _passes(place: Operated) -> list[Object]:
    """The operator's lists of Deployments, one in each pass."""
    asked = [each for each in _ours(place) if each.get("userAgent", "").startswith("groundswell-operator/")]
    return [each for each in asked if each["verb"] == "list" and _about(each) == "deployments"]


def _ours(place: Operated) -> list[Object]:
    """What was asked about this namespace."""
    events = place.plane.audit(place.namespace)
    return [each for each in events if each.get("objectRef", {}).get("namespace") == place.namespace]


def _about(event: Object) -> str:
    return str(event["objectRef"]["resource"])
