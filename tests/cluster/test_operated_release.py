"""A release with an operator in it, under the account and the Role that Helm has installed: nodes are simulated, so the pods of the chart's
own operator run nothing, and a process of this machine stands in for one of them.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from tests.cluster.chart import FOLDER, RELEASE, ROOT, render, shown
from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.forms import slow
from tests.cluster.operating import Operated, operating, scales

KINDS_THERE = ("--set", "operator.crds.install=false")
RAISED_S_MAX = 5.0
POLICY: Object = yaml.safe_load((ROOT / "docs" / "policy.yaml").read_text())
LINKS, GATEWAY, ANALYTICS = (f"{RELEASE}-{name}" for name in ("links", "gateway", "analytics"))


async def helm(place: Operated, *words: str) -> None:
    await asyncio.to_thread(place.plane.helm, *words, "--namespace", place.namespace)


@pytest.fixture
async def release(
    control_plane: ControlPlane, admin: Api, namespace: str, kinds: None, tmp_path: Path
) -> AsyncIterator[Operated]:
    """A namespace with a release that Helm has installed."""
    words = ("install", RELEASE, str(FOLDER), *KINDS_THERE, "--wait", "--timeout", "120s", "--namespace", namespace)
    await asyncio.to_thread(control_plane.helm, *words)
    async with operating(control_plane, admin, namespace, tmp_path) as place:
        await until(
            lambda: place.ready(LINKS, 2)
        )  # Helm waits for the first pod of each, and autoscalers bring the others
        for name in (GATEWAY, ANALYTICS):
            await until(lambda: place.ready(name, 2, place.stateful_set(name)))  # noqa: B023  # awaited within the turn
        yield place


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-3")
async def test_an_upgrade_in_the_middle_of_a_spike_finds_its_floor_raised_again_within_five_seconds(
    release: Operated,
) -> None:
    """Goal: what the chart installs is enough for that. Method: who wrote the autoscaler when, as the API server's audit log has it."""
    await release.leads(release.start("one"))
    path = await release.spike("vs-a", await release.policy(actions=[scales(LINKS, 20)]))
    await release.comes_to(path, "Holding", 60)
    assert await release.bounds(LINKS) == (40, 40), "beyond the most of the values, too"
    await helm(release, "upgrade", RELEASE, str(FOLDER), *KINDS_THERE, "--set", "processes.links.replicas.min=3")
    await until(lambda: _is_raised(release))
    by_helm, again = await until(lambda: _taken_back(release))
    assert 0 <= (_moment(again) - _moment(by_helm)).total_seconds() < RAISED_S_MAX
    await until(lambda: release.ready(LINKS, 40), 60)
    await release.admin.delete(path)
    await until(lambda: release.gone(path))
    assert await release.bounds(LINKS) == (3, 30), "what the upgrade says is the baseline from then on"
    assert not release.refusals()


async def _is_raised(place: Operated) -> bool:
    return await place.bounds(LINKS) == (40, 40)


async def _taken_back(place: Operated) -> list[Object]:
    """Helm's write and the operator's after it, once the audit log has both."""
    *_, last, again = _writes_of_the_floor(place)
    by_helm = last["userAgent"].startswith("Helm/") and again["user"]["username"].endswith(":groundswell-operator")
    return [last, again] if by_helm else []


def _writes_of_the_floor(place: Operated) -> list[Object]:
    """Who wrote the autoscaler of links, one after the other; its status is the autoscaler's own affair."""
    return [
        each
        for each in place.plane.audit(place.namespace)
        if each["verb"] in ("create", "patch", "update")
        and each.get("objectRef", {}).get("namespace") == place.namespace
        and each["objectRef"]["resource"] == "horizontalpodautoscalers"
        and each["objectRef"].get("name") == LINKS
        and "subresource" not in each["objectRef"]
        and each["responseStatus"]["code"] < 300
    ]


def _moment(event: Object) -> datetime:
    return datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))


@slow
async def test_what_the_page_says_of_spikes_is_so(release: Operated) -> None:
    """Method: its commands one after the other, for a spike that is only observed, then for one that a person approves."""
    observe, act = shown("## Viral spikes")[:2]

    async def kubectl(command: str, spike: str) -> None:
        words = shlex.split(command.replace("-n groundswell", f"-n {release.namespace}").replace("NAME", spike))
        await asyncio.to_thread(release.plane.kubectl, *words[1:])

    await release.leads(release.start("one"))
    await kubectl(observe[0], "")
    policy = await release.admin.get(f"{release.policies}/default")
    observed = await release.spike("vs-a", policy)
    status = await release.comes_to(observed, "Raising")
    assert {each["name"]: each["desired"] for each in status["targets"]}["links"] == 10
    for command in observe[1:]:
        await kubectl(command, "vs-a")
    assert not release.foreign()

    approve, approved, enforce, pause, go_on, give_back = act
    await kubectl(approve, "")
    path = await release.spike("vs-b", policy)
    await release.comes_to(path, "AwaitingApproval")
    await kubectl(approved, "vs-b")
    await release.comes_to(path, "Holding", 60)
    assert (await release.bounds(LINKS))[0] == 10
    await kubectl(enforce, "")
    await kubectl(pause, "")
    await until(lambda: _is(release, "Paused"))
    await kubectl(go_on, "")
    await until(lambda: _is(release, "Active"))
    await kubectl(give_back, "vs-b")
    assert (await release.bounds(LINKS))[0] == 2
    assert not release.refusals()


async def _is(place: Operated, phase: str) -> bool:
    return bool((await place.admin.get(f"{place.policies}/default"))["status"]["phase"] == phase)


def test_the_policy_of_the_docs_raises_what_the_chart_runs_web_last() -> None:
    rendered = render({})
    asked = {each["scale"]["targetRef"]["name"]: each for each in POLICY["spec"]["actions"]}
    assert {name: (each["order"], each["scale"]["multiplier"]) for name, each in asked.items()} == {
        LINKS: (1, 5),
        ANALYTICS: (1, 5),
        GATEWAY: (2, 10),
    }
    for name, each in asked.items():
        target = rendered.one("HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]
        assert {"apiVersion": "apps/v1", **each["scale"]["targetRef"]} == target
