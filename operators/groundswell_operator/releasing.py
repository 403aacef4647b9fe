"""Gives back all that is raised in a namespace before the operator is taken away: `helm uninstall` waits for it.

The bridge is stopped first, or it would tell of further spikes. Then every spike is deleted that holds something or may come to, those that
hold something first, and the operator that still runs gives back what it raised; the record of one that is over stays, without a finalizer
that nobody would be left to take away. It ends whatever it
finds: what is not given back in time, or has nobody left to do it, is let go as it is, since an object that waits for an operator which is
not there keeps its namespace for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from groundswell_operator.applying import connecting
from groundswell_operator.applying.errors import Away, Conflict, Refused
from groundswell_operator.applying.reading import FINALIZER, Paths
from groundswell_operator.applying.requests import Pace, Requests
from groundswell_operator.leading import LEASE
from groundswell_operator.policies import Object
from groundswell_operator.saga.state import LIVE, OVER, Phase
from groundswell_operator.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

MANAGER = "groundswell-release"
PATIENCE_S = 200.0
"""For the operator and the bridge; after it spikes are let go as they are. Helm waits five minutes for a hook unless told otherwise."""
END_S = 240.0
UNLED_S = 20.0
"""A Lease that did not change for so long has no operator behind it: another one takes it within fifteen seconds."""
LOOK_S = 0.5
LOOK_S_MAX = 5.0
"""After which it looks again what time it is and whether an operator is left, however many spikes there are."""
_LIVE, _OVER = ({each.value for each in phases} for phases in (LIVE, OVER))
_EMPTY = {"", Phase.PENDING.value, Phase.AWAITING_APPROVAL.value}
"""Spikes in these hold nothing yet."""


async def run(settings: Settings) -> int:
    """0 once no spike is left that waits for an operator; 1 when the API server did not let it, or was away for too long."""
    async with connecting.session(settings.identity) as session:
        release = Release(Requests(session, Pace()), settings.namespace, settings.bridge)
        try:
            return 0 if await release.run() else 1
        except Refused as refused:
            log.error("what is raised could not be given back: %s", refused)
            return 1


class Release:
    """The release of one namespace."""

    def __init__(
        self,
        asking: Requests,
        namespace: str,
        bridge: str,
        patience_s: float = PATIENCE_S,
        end_s: float = END_S,
        unled_s: float = UNLED_S,
        look_s_max: float = LOOK_S_MAX,
    ) -> None:
        """`bridge` is the name of its Deployment; empty where there is none."""
        self._requests, self._bridge = asking, bridge
        self._patience_s, self._end_s, self._unled_s = patience_s, end_s, unled_s
        self._look_s_max = look_s_max
        self._paths = Paths(namespace)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"
        self._seen: object = None
        self._began_s = self._seen_s = time.monotonic()

    async def run(self) -> bool:
        """Whether all is let go; raises `Refused`."""
        while self._passed_s() < self._end_s:
            try:
                if await self._look():
                    return True
            except Conflict as conflict:
                log.info("somebody else was quicker: %s", conflict)
            except Away as away:
                log.warning("the API server is asked again: %s", away)
                self._seen = None  # an operator could not renew its Lease either, and gets its time anew
            await asyncio.sleep(LOOK_S)
        log.error("spikes are left after %.0f s", self._end_s)
        return False

    def _passed_s(self) -> float:
        return time.monotonic() - self._began_s

    async def _look(self) -> bool:
        """Does what can be done within a few seconds; whether nothing was left to do."""
        late = self._passed_s() >= self._patience_s
        stopped, unled = await self._bridge_stopped(), await self._unled()
        spikes, until_s = await self._spikes(), self._passed_s() + self._look_s_max
        for each in spikes:
            if self._passed_s() >= until_s:
                break
            await self._end(each, late or unled)
        return (stopped or late) and not spikes

    async def _end(self, spike: Object, lets_go: bool) -> None:
        try:
            if "deletionTimestamp" not in spike["metadata"]:
                await (self._let_go(spike) if _phase(spike) in _OVER else self._delete(spike))
            elif _phase(spike) in _EMPTY:  # and stays so: what is deleted is not raised
                await self._let_go(spike)
            elif lets_go:
                log.warning("%s is let go as it is: nobody gave back what it raised", spike["metadata"]["name"])
                await self._let_go(spike)
        except Conflict as conflict:  # the others do not wait for it
            log.info("somebody else was quicker: %s", conflict)

    async def _spikes(self) -> Sequence[Object]:
        """Those that are still to be deleted, or wait for the operator: first those that hold something."""
        found = (await _unless_gone(self._requests.get(self._paths.spikes), {"items": []}))["items"]
        return sorted((each for each in found if _concerns(each)), key=_rank)

    async def _delete(self, spike: Object) -> None:
        metadata = spike["metadata"]
        deletion = self._requests.delete(f"{self._paths.spikes}/{metadata['name']}", metadata["resourceVersion"])
        await _unless_gone(deletion, None)

    async def _let_go(self, spike: Object) -> None:
        metadata = spike["metadata"]
        others = [each for each in metadata["finalizers"] if each != FINALIZER]
        value = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": others}}
        await _unless_gone(self._requests.merge(f"{self._paths.spikes}/{metadata['name']}", value, MANAGER), {})

    async def _bridge_stopped(self) -> bool:
        """Whether no pod of the bridge runs any more; asks it to stop where it has not been asked."""
        if not self._bridge:
            return True
        path = f"{self._paths.deployments}/{self._bridge}"
        found = await _unless_gone(self._requests.get(path), {})
        if not found:
            return True
        if found["spec"]["replicas"]:
            await self._requests.merge(f"{path}/scale", {"spec": {"replicas": 0}}, MANAGER)
            return False
        labels = found["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        pods = (await self._requests.get(self._pods, labelSelector=selector))["items"]
        return all(each["status"].get("phase") in ("Succeeded", "Failed") for each in pods)

    async def _unled(self) -> bool:
        """Whether the Lease shows that no operator acts, by this process's own clock."""
        spec = (await _unless_gone(self._requests.get(self._lease), {"spec": {}}))["spec"]
        seen = (spec.get("holderIdentity"), spec.get("renewTime"))
        if seen != self._seen:
            self._seen, self._seen_s = seen, time.monotonic()
        return time.monotonic() - self._seen_s >= self._unled_s


def _concerns(spike: Object) -> bool:
    return _is_held(spike) or not ("deletionTimestamp" in spike["metadata"] or _phase(spike) in _OVER)


def _rank(spike: Object) -> tuple[bool, bool]:
    return not _is_held(spike), _phase(spike) not in _LIVE


def _is_held(spike: Object) -> bool:
    """Whether the operator has to do something before it goes."""
    return FINALIZER in spike["metadata"].get("finalizers", ())


def _phase(spike: Object) -> str:
    return str(spike.get("status", {}).get("phase", ""))


async def _unless_gone(request: Awaitable[T], gone: T) -> T:
    """What is answered, or `gone` where the object is not there; raises what `Requests` does."""
    try:
        return await request
    except Refused as refused:
        if refused.status != 404:
            raise
        return gone
