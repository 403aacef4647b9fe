"""What the bridge says of itself and of its source, to an API server on loopback (`serving`)."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from groundswell_operator.applying import reading, statuses
from groundswell_operator.applying.listing import Listing
from groundswell_operator.applying.owning import Owner
from groundswell_operator.applying.reading import Paths
from groundswell_operator.applying.requests import Clock
from groundswell_operator.applying.scaled_objects import ScaledObjects
from groundswell_operator.bridge.consuming import ASKED_S_MAX, REPORT_S
from groundswell_operator.bridge.sources import CALM_S, CALM_S_MAX, HEARD_S, Source, Sources, due_s
from groundswell_operator.saga.sourcing import SILENT_S
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import listed

POLICIES = 100
SOURCE = Source(answers=True, lag=0, last_record_s=None, too_old=0)


async def test_at_rest_one_heartbeat_is_written_for_a_hundred_policies_and_nothing_into_any_of_them() -> None:
    async with answering(lambda _: (200, {})) as (server, requests):
        sources = Sources(requests, "here", "one")
        policies: list[dict[str, Any]] = [{"metadata": {"name": f"p{number}", "generation": 1}} for number in range(3)]
        for each in policies:
            await sources.tell(each, SOURCE, 0.0)
        told = {each.path.split("/")[-2]: each.value["status"] for each in server.written()}
        assert list(told) == ["p0", "p1", "p2"]
        server.asked.clear()
        for number in range(POLICIES):
            await sources.beat()
            await sources.tell({**policies[0], "status": told["p0"]}, SOURCE, 20.0 + number)
    assert [each.path.rpartition("/")[2] for each in server.written()] == ["groundswell-bridge"]


def test_nothing_is_said_while_a_raise_begins_unless_records_never_end() -> None:
    """What is said of the source would slow the operator's first writes, and must not be taken for an end of the bridge either."""
    assert due_s(said_s=0.0, record_s=float("-inf")) == HEARD_S
    assert due_s(said_s=0.0, record_s=HEARD_S - 2 * CALM_S) == HEARD_S
    assert due_s(said_s=0.0, record_s=HEARD_S) == HEARD_S + CALM_S
    assert due_s(said_s=0.0, record_s=HEARD_S + CALM_S_MAX) == HEARD_S + CALM_S_MAX
    assert 2 * (HEARD_S + CALM_S_MAX) + REPORT_S + ASKED_S_MAX < SILENT_S, "it may fail to once"


async def test_the_operator_reads_when_the_bridge_was_last_heard_of_and_lives_without_one() -> None:
    lease: dict[str, Any] = {}

    def answer(asked: Asked) -> Answer:
        if not asked.path.endswith("/leases/groundswell-bridge"):
            return listed(asked)
        if asked.method == "PATCH":
            lease.update(asked.value)
        return (200, lease) if lease else (404, {"message": "not found"})

    async with answering(answer) as (_, requests):
        paths = Paths("here")
        scaled_objects, spikes = ScaledObjects(requests, paths.scaled_objects), Listing(requests, paths.spikes).listed
        assert (await reading.read(requests, paths, scaled_objects, spikes)).heard_s is None
        await Sources(requests, "here", "one").beat()
        assert (await reading.read(requests, paths, scaled_objects, spikes)).heard_s is not None


async def test_an_owner_that_may_not_be_read_for_a_while_is_asked_for_again_and_taken_from_no_lease() -> None:
    """A Role that is replaced answers 403 for a moment. What is applied then says nothing of owners, so those that are there stay."""
    status = 403

    def answer(asked: Asked) -> Answer:
        if "/deployments/" in asked.path:
            return (200, {"metadata": {"name": "bridge", "uid": "u"}}) if status == 200 else (status, {"message": "no"})
        return (200, {})

    async with answering(answer) as (server, requests):
        await Sources(requests, "here", "one", "bridge").beat()
        owner = Owner(requests, "here", "bridge")
        assert not await owner.references()
        status = 200
        assert [each["uid"] for each in await owner.references()] == ["u"]
    (applied,) = server.written()
    assert "ownerReferences" not in applied.value["metadata"]


@pytest.mark.parametrize("ahead_s", [-300, 300])
async def test_the_bridge_says_that_it_looks_by_the_api_servers_clock(ahead_s: float) -> None:
    """From the first time on: by its own, one that begins anew all the time would never be missed, or always."""
    async with answering(lambda _: (200, {})) as (server, requests):
        server.ahead_s = ahead_s
        before_s = server.now_s()
        await Sources(requests, "here", "one").beat()
        after_s = server.now_s()
    (said,) = server.written()
    assert before_s - 1 <= statuses.seconds_of(said.value["spec"]["renewTime"]) <= after_s  # a Date has whole seconds


async def test_the_lease_of_a_bridge_goes_with_its_deployment() -> None:
    async with answering(lambda asked: (200, {"metadata": {"name": "bridge", "uid": "u"}})) as (server, requests):
        await Sources(requests, "here", "one", "bridge").beat()
    (said,) = server.written()
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "bridge", "uid": "u"}
    assert said.value["metadata"]["ownerReferences"] == [owner]


@pytest.mark.parametrize("ahead_s", [-300, -30, 30, 300])
async def test_a_clock_that_is_off_is_set_right_by_the_api_servers_answers(ahead_s: float) -> None:
    """By the seconds that its Lease must not be older than, a bridge that has just said that it looks is heard of."""
    async with answering(lambda _: (200, {})) as (server, requests):
        server.ahead_s = ahead_s
        assert abs(requests.now_s() - time.time()) < SILENT_S / 3  # nothing was said yet
        await requests.get("/apis")
        assert abs(requests.now_s() - server.now_s()) < SILENT_S / 3


@pytest.mark.parametrize(("off_s", "counts"), [(0.0, True), (0.9, True), (3.0, False), (-3.0, False)])
def test_a_clock_that_agrees_with_the_api_servers_is_the_more_exact(off_s: float, counts: bool) -> None:
    """An answer leaves out parts of seconds, and how fast a raise is, is told in milliseconds."""
    said_s = 1_764_000_000.0
    clock = Clock(lambda: said_s + off_s)
    clock.hear({"Date": formatdate(said_s, usegmt=True)}, time.monotonic())
    assert (clock.now_s() == said_s + off_s) is counts
