"""What a record makes of the objects: there is one for each spike and policy, its level rises, and it is told when it is over."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from groundswell_operator.applying.errors import ODD, Conflict, Refused
from groundswell_operator.applying.reading import Paths
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.statuses import moment
from groundswell_operator.bridge.records import Sighting, manifest, object_name
from groundswell_operator.planning import admission
from groundswell_operator.policies import Level, Object, Policy

log = logging.getLogger(__name__)

MANAGER = "groundswell-bridge"
REMEMBERED_MAX = 10_000
"""Spikes of which it is remembered what the API server knows, so that a repeated record costs no request."""


@dataclass(frozen=True, slots=True)
class Governed:
    """A policy as the API server has it, and in the words of planning."""

    value: Object
    policy: Policy
    dismissed: frozenset[str] = frozenset()
    """The objects that somebody has deleted while their spikes lived."""


class Intake:
    """Takes sightings, in the order of their partition. Every method raises what `Requests` does."""

    def __init__(
        self,
        requests: Asking,
        namespace: str,
        records: Counter,
        named: Callable[[str, str], str] = object_name,
    ) -> None:
        """`records` counts by outcome; `named` names the object of a policy and a spike."""
        self._requests, self._paths = requests, Paths(namespace)
        self._records, self._named = records, named
        self._known: OrderedDict[str, Level | None] = OrderedDict()

    async def policies(self) -> Sequence[Governed]:
        """Those that the API server has in its cache.

        It waits up to a tenth of a second before it looks again whether that is all, and the operator asks for all right afterwards.
        """
        found = (await self._requests.get(self._paths.policies, resourceVersion="0"))["items"]
        governed = [_governed(each) for each in found if "deletionTimestamp" not in each["metadata"]]
        return [each for each in governed if each is not None]

    async def take(self, seen: Sighting, policies: Sequence[Governed], now_s: float) -> Sequence[str]:
        """Does what a record calls for; the names of the policies for which it was too old."""
        late = []
        for each in policies:
            name = self._named(each.policy.name, seen.id)
            if seen.over:
                await self._ends(name, seen)
            elif seen.level is None or not admission.matches(each.policy.match, seen.evidence()):
                self._records.labels("ignored").inc()
            elif now_s - seen.recorded_s > each.policy.record_age_s_max:
                self._records.labels("too_old").inc()
                late.append(each.policy.name)
            else:
                await self._rises(name, each, seen, seen.level)
        return late

    async def _rises(self, name: str, governed: Governed, seen: Sighting, level: Level) -> None:
        if name in governed.dismissed:
            self._records.labels("dismissed").inc()
            return
        known = self._known.get(name)
        if known is not None and known >= level:
            self._records.labels("repeated").inc()
            return
        path = f"{self._paths.spikes}/{name}"
        try:
            made = await self._requests.create(self._paths.spikes, manifest(name, governed.value, seen))
            self._records.labels("created").inc()
        except Conflict:
            made = await self._requests.get(path)
            self._records.labels("repeated").inc()
        said = made.get("status", {}).get("level")
        if said is None or Level[said] < level:
            await self._raise(path, level)
        self._remember(name, max(level, Level[said]) if said else level)

    async def _raise(self, path: str, level: Level) -> None:
        try:
            await self._requests.merge(f"{path}/status", {"status": {"level": level.name}}, MANAGER)
        except Refused as refused:
            if refused.status != 422:  # the level never falls: somebody has said a higher one
                raise

    async def _ends(self, name: str, seen: Sighting) -> None:
        path = f"{self._paths.spikes}/{name}"
        try:
            found = await self._requests.get(path)
            if "over" not in found.get("status", {}):
                status = {"status": {"over": moment(seen.recorded_s)}}
                await self._requests.merge(f"{path}/status", status, MANAGER)
            self._records.labels("ended").inc()
        except Refused as refused:
            if refused.status != 404:
                raise
            self._records.labels("ignored").inc()

    def _remember(self, name: str, level: Level) -> None:
        self._known[name] = level
        self._known.move_to_end(name)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def _governed(value: Object) -> Governed | None:
    """A policy; None where it is not as its schema says, which the operator says of it too."""
    try:
        dismissed = frozenset(each["name"] for each in value.get("status", {}).get("dismissed", ()))
        return Governed(value, Policy.of(value), dismissed)
    except ODD as error:
        log.warning("the policy %s cannot be read: %r", value["metadata"]["name"], error)
        return None
