"""One leader at a time, by a Lease of the API server.

Who leads renews every two seconds and stops to write ten seconds after the last renewal began, by its own clock, which runs on while the
process is stopped. Who waits counts from the moment at which it last saw the Lease change, by its own clock too, so no two clocks are
compared. It follows the Lease by one request, and decides by looking at it. It waits those ten seconds and two more, and then leads within
fifteen seconds of the other's death.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from groundswell_operator.applying.errors import ODD, Away, Conflict, Refused
from groundswell_operator.applying.owning import Owner
from groundswell_operator.applying.requests import LANDS_S_MAX, Requests
from groundswell_operator.policies import Object

log = logging.getLogger(__name__)

LEASE = "groundswell-operator"
LEASE_S = 15
"""Written into the Lease: after so long without a renewal somebody else leads."""
WRITES_S_MAX = 10.0
"""After the last renewal began, nothing more is written."""
RENEW_S = 2.0
TAKEOVER_S = 12.0
SILENCE_S = 2.5
"""Who waits follows the Lease, and looks at it after hearing nothing for so long: what it follows may have got stuck."""
LEAST_S = 0.1
LOOK_S = 1.0
"""Where it cannot be followed."""


class Lost(Exception):
    """Somebody else leads, or nobody could be asked for too long."""


class Lease:
    """The Lease of a namespace's operator."""

    def __init__(
        self, requests: Requests, namespace: str, identity: str, takeover_s: float = TAKEOVER_S, deployment: str = ""
    ) -> None:
        """`requests` may write without leading. The Lease goes with the `deployment` of who leads, where that is named."""
        self._requests, self._identity, self._takeover_s = requests, identity, takeover_s
        self._owner = Owner(requests, namespace, deployment)
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._renewed_s = float("-inf")
        self._held: Object = {}
        """As this process wrote it last."""
        self._follows_s = float("-inf")
        """Since when this process leads, where nobody has given the Lease back before."""
        self._seen: tuple[Any, ...] = ()
        self._seen_s = 0.0
        self.looked_s = time.monotonic()
        """When the API server was last asked, and answered or was found to be away (monotonic)."""

    def leads(self) -> bool:
        """Whether this process may write at this moment."""
        return self.left_s() > 0

    def left_s(self) -> float:
        """For how long it may, unless the Lease is renewed; less than nothing once it may not."""
        return WRITES_S_MAX - (time.monotonic() - self._renewed_s)

    def may_be_late(self) -> bool:
        """Whether a write of who led before may still land."""
        return time.monotonic() - self._follows_s < LANDS_S_MAX

    async def acquire(self) -> None:
        """Returns once this process leads."""
        while not self.leads():
            try:
                await self._take()
            except (Conflict, Away, Refused, *ODD) as error:
                log.info("the Lease is asked for again: %s", error)
            self.looked_s = time.monotonic()
            if not self.leads():
                await self._wait()
        log.info("%s leads", self._identity)

    async def keep(self) -> None:
        """Renews without end; raises `Lost`."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                async with asyncio.timeout(WRITES_S_MAX):
                    await self._renew()
            except (Away, TimeoutError) as error:
                log.warning("the Lease was not renewed: %s", error)
            except (Conflict, Refused) as error:
                self._renewed_s = float("-inf")
                raise Lost(str(error)) from error
            if not self.leads():
                raise Lost("it was not renewed in time")

    async def release(self, may_land: bool = False) -> None:
        """Lets the next one lead at once; not so where a write of this process `may_land`, of which that one has to know: it takes what has
        run out. A Lease that is another's by now is left alone."""
        if self.leads() and may_land:
            self._renewed_s = float("-inf")
            log.warning("the Lease is not given back: a write was cut off that may land yet")
        elif self.leads():
            self._renewed_s, began_s = float("-inf"), time.monotonic()
            found = await self._requests.get(f"{self._path}/{LEASE}")
            if (holder := _spec(found).get("holderIdentity")) != self._identity:
                log.info("the Lease is %s's already", holder)
                return
            await self._requests.replace(f"{self._path}/{LEASE}", _with(found, holderIdentity=""))
            log.info("the Lease was given back after %.3f s", time.monotonic() - began_s)

    async def _wait(self) -> None:
        """Returns when the Lease is nobody's, was not heard of for a while, or is due: then it is looked at, and decided upon by that."""
        left_s, heard = self._seen_s + self._takeover_s - time.monotonic(), False
        following = self._requests.follow(self._path, LEASE, min(SILENCE_S, max(LEAST_S, left_s)))
        try:
            async with aclosing(following):
                async for lease in following:
                    heard = True
                    self._see(_spec(lease))
                    if not _spec(lease).get("holderIdentity"):
                        return
        except (Conflict, Away, Refused, *ODD) as error:
            log.info("the Lease is looked at again in %.0f s: %s", LOOK_S, error)
        if not heard:
            await asyncio.sleep(LOOK_S)

    def _see(self, spec: Object) -> None:
        """Counts from now, if the Lease has changed."""
        self.looked_s = time.monotonic()
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_s = seen, self.looked_s

    async def _take(self) -> None:
        """Takes the Lease if it is nobody's, or that of this pod's last life, or its holder has not renewed it."""
        began_s = time.monotonic()
        try:
            found = await self._requests.get(f"{self._path}/{LEASE}")
        except Refused as refused:
            if refused.status != 404:
                raise
            self._held = await self._requests.create(self._path, self._new(await self._owner.references()))
            self._renewed_s = began_s
            if self._seen:  # somebody has deleted it
                self._follows_s = time.monotonic()
            return
        spec = _spec(found)
        self._see(spec)
        if spec.get("holderIdentity", "") in ("", self._identity) or self.looked_s - self._seen_s >= self._takeover_s:
            transitions = spec.get("leaseTransitions", 0) + 1
            owned = _owned(found, await self._owner.references())
            mine = _with(owned, holderIdentity=self._identity, acquireTime=_now(), leaseTransitions=transitions)
            began_s = time.monotonic()
            self._held = await self._requests.replace(f"{self._path}/{LEASE}", mine)
            self._renewed_s = began_s
            if spec.get("holderIdentity"):
                self._follows_s = time.monotonic()

    async def _renew(self) -> None:
        """One write, which is refused unless the Lease is as this process left it; it is looked at only then."""
        began_s, path = time.monotonic(), f"{self._path}/{LEASE}"
        try:
            self._held = await self._requests.replace(path, _with(self._held))
        except Conflict:
            found = await self._requests.get(path)
            if (holder := _spec(found).get("holderIdentity")) != self._identity:
                raise Conflict(f"{holder} leads") from None
            self._held = await self._requests.replace(path, _with(found))
        self._renewed_s = self.looked_s = began_s

    def _new(self, owners: Sequence[Object]) -> Object:
        return {
            "metadata": {"name": LEASE, "namespace": self._namespace, "ownerReferences": owners},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_S,
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }


def _spec(lease: Object) -> Object:
    """What a Lease says; nothing where somebody has taken that away, as its schema lets them: it is nobody's then."""
    found: Object = lease.get("spec") or {}
    return found


def _owned(lease: Object, owners: Sequence[Object]) -> Object:
    """The Lease as that of these owners; whose it was before, where there are none."""
    return {**lease, "metadata": {**lease["metadata"], "ownerReferences": owners}} if owners else lease


def _with(lease: Object, **changes: object) -> Object:
    """The Lease as it is renewed now."""
    return {**lease, "spec": {**_spec(lease), "leaseDurationSeconds": LEASE_S, "renewTime": _now(), **changes}}


def _now() -> str:
    """For people: nothing is decided by it."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1_000_000):06d}Z"
