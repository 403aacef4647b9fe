"""A Lease on loopback (`serving`) that somebody else takes at the worst moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from groundswell_operator.applying.errors import Conflict
from groundswell_operator.leading import LEASE, Lease
from tests.operators.serving import Answer, Asked, answering


class Store:
    """One Lease, and its versions."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] = {}
        self.taken_after_reads = False

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            found = dict(self.lease)
            if self.taken_after_reads:
                self.take("another")
            return (200, found) if found else (404, {"message": "not found"})
        version = self.lease.get("metadata", {}).get("resourceVersion")
        if asked.value["metadata"].get("resourceVersion") != version:
            return 409, {"message": "it has changed"}
        self._keep(asked.value)
        return 200, self.lease

    def take(self, identity: str) -> None:
        self._keep({**self.lease, "spec": {**self.lease["spec"], "holderIdentity": identity}})

    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"])

    def _keep(self, value: dict[str, Any]) -> None:
        version = str(int(self.lease.get("metadata", {}).get("resourceVersion", "0")) + 1)
        self.lease = {**value, "metadata": {"name": LEASE, "resourceVersion": version}}


async def test_a_lease_is_given_back_by_whoever_holds_it_and_left_alone_once_it_is_anothers() -> None:
    store = Store()
    async with answering(store.answer) as (_, requests):
        mine = Lease(requests, "here", "one")
        await mine.acquire()
        store.take("another")
        await mine.release()
        assert store.holder() == "another"
        store.take("")
        again = Lease(requests, "here", "one")
        await again.acquire()
        await again.release()
        assert store.holder() == ""


async def test_a_lease_that_is_taken_while_it_is_given_back_stays_with_whoever_took_it() -> None:
    store = Store()
    async with answering(store.answer) as (_, requests):
        mine = Lease(requests, "here", "one")
        await mine.acquire()
        store.taken_after_reads = True
        with pytest.raises(Conflict):
            await mine.release()
    assert store.holder() == "another"


@pytest.mark.parametrize("wiped", [{}, {"spec": None}])
async def test_a_lease_that_somebody_has_emptied_is_nobodys(wiped: dict[str, Any]) -> None:
    """Its schema lets them; who took that for an error would end and begin anew for ever."""
    store = Store()
    async with answering(store.answer) as (_, requests):
        await Lease(requests, "here", "one").acquire()
        metadata = store.lease["metadata"]
        store.lease = {"metadata": metadata, **wiped}
        another = Lease(requests, "here", "another")
        await another.acquire()
        assert store.holder() == "another"
        store.lease = {"metadata": store.lease["metadata"], **wiped}
        await another.release()
    assert not store.lease.get("spec"), "it is left alone"


async def test_a_lease_that_makes_no_sense_is_looked_at_again_until_it_does() -> None:
    store = Store()
    store.lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "", "leaseTransitions": "many"}}
    async with answering(store.answer) as (server, requests):
        waiting = asyncio.create_task(Lease(requests, "here", "one").acquire())
        while len(server.asked) < 2 and not waiting.done():
            await asyncio.sleep(0.01)
        store.lease["spec"]["leaseTransitions"] = 7
        async with asyncio.timeout(20):
            await waiting
    assert store.lease["spec"]["leaseTransitions"] == 8


class Owned(Store):
    """The same, with the Deployment of who leads, if there is one."""

    def __init__(self, uid: str) -> None:
        super().__init__()
        self.uid = uid

    def answer(self, asked: Asked) -> Answer:
        if not asked.path.endswith("/deployments/operator"):
            return super().answer(asked)
        metadata = {"name": "operator", "uid": self.uid}
        return (200, {"metadata": metadata}) if self.uid else (403, {"message": "forbidden"})

    def _keep(self, value: dict[str, Any]) -> None:
        super()._keep(value)
        self.lease["metadata"]["ownerReferences"] = value["metadata"].get("ownerReferences", [])

    def owners(self) -> list[str]:
        return [each["uid"] for each in self.lease["metadata"]["ownerReferences"]]


async def test_a_lease_goes_with_the_deployment_of_who_leads_also_one_that_an_earlier_version_has_made() -> None:
    store = Owned("first")
    async with answering(store.answer) as (_, requests):
        await Lease(requests, "here", "one", deployment="operator").acquire()
        assert store.owners() == ["first"]
        store.uid = "second"  # uninstalled, and installed again
        await Lease(requests, "here", "one", deployment="operator").acquire()
        assert store.owners() == ["second"]
        store.lease["metadata"]["ownerReferences"] = []
        again = Lease(requests, "here", "one", deployment="operator")
        await again.acquire()
        assert store.owners() == ["second"]
        await again.release()
    assert (store.holder(), store.owners()) == ("", ["second"])


async def test_who_may_not_read_its_deployment_leads_all_the_same() -> None:
    store = Owned("")
    async with answering(store.answer) as (_, requests):
        await Lease(requests, "here", "one", deployment="operator").acquire()
    assert (store.holder(), store.owners()) == ("one", [])


class Followed(Store):
    """The same, which tells of each change to whoever follows it: another one renews it, and gives it back in the end."""

    def __init__(self, renewals: int) -> None:
        super().__init__()
        self.renewals = renewals
        self._keep({"spec": {"holderIdentity": "another", "renewTime": "0"}})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        told = web.StreamResponse()
        await told.prepare(request)
        for number in range(self.renewals):
            holder = "another" if number + 1 < self.renewals else ""
            self._keep({"spec": {"holderIdentity": holder, "renewTime": str(number)}})
            await told.write(json.dumps({"type": "MODIFIED", "object": self.lease}).encode() + b"\n")
        return told


async def test_who_waits_follows_the_lease_by_one_request_and_takes_it_once_it_is_given_back() -> None:
    store = Followed(renewals=50)
    async with answering(store.answer, store.stream) as (server, requests):
        waiting = Lease(requests, "here", "one")
        await waiting.acquire()
    assert store.holder() == "one"
    assert [each.method for each in server.asked] == ["GET", "GET", "PUT"]  # and one that was followed
