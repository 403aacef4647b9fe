"""What a record makes of the objects: there is one for each spike and policy, its level rises, and it is told when it is over."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter

from groundswell_operator.applying.errors import ODD, Away, Conflict, Refused
from groundswell_operator.applying.reading import Paths, level_of, over_of
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.statuses import moment
from groundswell_operator.bridge.records import Sighting, manifest, object_name
from groundswell_operator.planning import admission
from groundswell_operator.policies import Level, Mode, Object, Policy

log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")
MANAGER = "groundswell-bridge"
PASSING = (401, 403)
"""What is refused so may be taken a little later: a token is renewed, a Role is replaced by an upgrade, a quota has room again."""
REMEMBERED_MAX = 10_000
"""Spikes of which it is remembered what the API server knows, so that a repeated record costs no request; and as many that are over."""
KNOWN_S = 10.0
"""How long what is remembered of an object is taken for granted: somebody may have deleted it."""
AGAIN_S = 10.0
"""How long after a further refusal the ends that were refused are said again."""
AGAIN_MAX = 20
"""Of one look: records wait behind them."""


@dataclass(frozen=True, slots=True)
class Governed:
    """A policy as the API server has it, and in the words of planning."""

    value: Object
    policy: Policy
    dismissed: frozenset[str] = frozenset()
    """The objects that somebody has deleted while their spikes lived."""
    raises: bool = False
    """Whether a spike that comes now is likely to be raised at once: it enforces, and has a place left when last it said."""

    @property
    def uid(self) -> str:
        """Another policy of the same name has another."""
        return str(self.value["metadata"]["uid"])


@dataclass(frozen=True, slots=True)
class Known:
    """What the API server has of a spike."""

    level: Level
    looked_s: float
    """When that was last seen (monotonic)."""


class Intake:
    """Takes sightings, in the order in which they are handed over. Every method raises what `Requests` does."""

    def __init__(
        self,
        requests: Asking,
        namespace: str,
        records: Counter,
        named: Callable[[str, str], str] = object_name,
        known_s: float = KNOWN_S,
    ) -> None:
        """`records` counts by outcome; `named` names the object of a policy and a spike."""
        self._requests, self._paths = requests, Paths(namespace)
        self._records, self._named, self._known_s = records, named, known_s
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()
        """By the policy's uid, since one may be replaced by another of its name, and the object's name."""
        self._over_s: OrderedDict[str, float] = OrderedDict()
        """When each was said to be over: its start may still be on its way."""
        self._unsaid: OrderedDict[str, float] = OrderedDict()
        """Ends that were refused, after which nothing more comes of a spike."""
        self._again_s = float("-inf")

    def now_s(self) -> float:
        """By the API server's clock."""
        return self._requests.now_s()

    async def policies(self) -> Sequence[Governed]:
        """Those that the API server has in its cache.

        It waits up to a tenth of a second before it looks again whether that is all, and the operator asks for all right afterwards.
        """
        return _all_governed(await self._requests.get(self._paths.policies, resourceVersion="0"))

    async def take(self, seen: Sighting, policies: Sequence[Governed]) -> Sequence[str]:
        """Does what a record calls for; the names of the policies for which it was too old, by the API server's clock."""
        late: list[str] = []
        failed: Refused | Conflict | None = None
        for each in policies:
            try:
                if not await self._taken(seen, each):
                    late.append(each.policy.name)
            except (Refused, Conflict) as error:
                # The other policies get theirs first; what may be taken soon decides whether the record is asked for again.
                failed = error if failed is None or passes(error) else failed
        if failed is not None:
            raise failed
        return late

    async def _taken(self, seen: Sighting, governed: Governed) -> bool:
        """Whether a record was not too old for a policy."""
        name = self._named(governed.policy.name, seen.id)
        if seen.over:
            await self._ends(name, seen.recorded_s)
        elif seen.level is None or not admission.matches(governed.policy.match, seen.evidence()):
            self._records.labels("ignored").inc()
        elif self.now_s() - seen.recorded_s > governed.policy.record_age_s_max:
            self._records.labels("too_old").inc()
            return False
        else:
            await self._rises(name, governed, seen, seen.level)
        return True

    async def _rises(self, name: str, governed: Governed, seen: Sighting, level: Level) -> None:
        if name in governed.dismissed:
            self._records.labels("dismissed").inc()
            return
        key = governed.uid, name
        known = self._known.get(key)
        if known is not None and known.level >= level and time.monotonic() - known.looked_s < self._known_s:
            self._records.labels("repeated").inc()
            return
        over_s = self._over_s.get(name)
        found = None if known is None else await self._found(name)
        if found is None:
            if known is not None and await self._is_dismissed(name, governed):
                self._records.labels("dismissed").inc()
                return
            held = governed.raises and over_s is None
            found = await self._made(manifest(name, governed.value, seen, level, over_s, held=held))
        if not _lasts(found, governed):
            _remember(self._known, key, Known(level, float("-inf")))  # its next record looks whether this one is gone
            return
        if status := _unsaid(found, level, over_s):
            await self._say(f"{self._paths.spikes}/{name}", status)
        _remember(self._known, key, Known(max(level, level_of(found)), time.monotonic()))

    async def _found(self, name: str) -> Object | None:
        """An object that was there, if it still is."""
        try:
            found = await self._requests.get(f"{self._paths.spikes}/{name}")
        except Refused as refused:
            if refused.status != 404:
                raise
            return None
        self._records.labels("repeated").inc()
        return found

    async def _is_dismissed(self, name: str, governed: Governed) -> bool:
        """Whether the policy dismisses a spike by now: that is written before its object goes, and may be newer than what was read."""
        now = _all_governed(await self._requests.get(self._paths.policies))
        return any(name in each.dismissed for each in now if each.uid == governed.uid)

    async def _made(self, value: Object) -> Object:
        """The object as it is there, whoever has made it."""
        try:
            made = await self._requests.create(self._paths.spikes, value)
        except Conflict:
            found = await self._found(value["metadata"]["name"])
            if found is None:
                raise  # it has gone in between: there is room for it at the next try
            return found
        self._records.labels("created").inc()
        return made

    async def _say(self, path: str, status: Mapping[str, str]) -> None:
        """What an object that is there does not say yet, in one write: between two of them a spike that is over would be raised."""
        try:
            await self._requests.merge(f"{path}/status", {"status": status}, MANAGER)
        except Refused as refused:
            if refused.status != 422 or "level" not in status:
                raise
            # the level never falls: somebody has said a higher one
            if "over" in status:
                await self._say(path, {"over": status["over"]})

    async def say_again(self) -> None:
        """Says ends that were refused, until one of them is refused again; raises nothing that `Requests` does."""
        if time.monotonic() < self._again_s:
            return
        for name, over_s in list(self._unsaid.items())[:AGAIN_MAX]:
            try:
                await self._ends(name, over_s)
            except (Away, Refused, Conflict) as failed:
                log.warning("the end of %s is said again: %s", name, failed)
                self._again_s = time.monotonic() + AGAIN_S
                return

    async def _ends(self, name: str, over_s: float) -> None:
        """An end that comes before its start is kept for it, as far as this process lives and remembers; so is one that is refused."""
        path = f"{self._paths.spikes}/{name}"
        _remember(self._over_s, name, over_s)
        _remember(self._unsaid, name, over_s)
        try:
            found = await self._requests.get(path)
            if over_of(found) is None:
                await self._say(path, {"over": moment(over_s)})
            self._records.labels("ended").inc()
        except Refused as refused:
            if refused.status != 404:
                raise
            self._records.labels("ignored").inc()
        self._unsaid.pop(name, None)


def _lasts(found: Object, governed: Governed) -> bool:
    """Whether an object is this policy's, and nobody has deleted it. That of a policy that was replaced goes once it is given back."""
    metadata = found["metadata"]
    owners = [each["uid"] for each in metadata.get("ownerReferences", ())]
    return "deletionTimestamp" not in metadata and governed.uid in owners


def passes(refused: Refused | Conflict) -> bool:
    """Whether what is refused now may be taken a little later."""
    return isinstance(refused, Conflict) or refused.status in PASSING


def _unsaid(found: Object, level: Level, over_s: float | None) -> Mapping[str, str]:
    """What is still to be said in the status of an object. That may be all where the API server has the kinds of an older version, whose
    spec knows neither."""
    status = {"level": level.name} if level_of(found) < level else {}
    return status if over_s is None or over_of(found) else {**status, "over": moment(over_s)}


def _remember(found: OrderedDict[K, T], key: K, value: T) -> None:
    found[key] = value
    found.move_to_end(key)
    if len(found) > REMEMBERED_MAX:
        found.popitem(last=False)


def _all_governed(found: Object) -> Sequence[Governed]:
    """The policies of a list that can be read and were not deleted."""
    governed = [_governed(each) for each in found["items"] if "deletionTimestamp" not in each["metadata"]]
    return [each for each in governed if each is not None]


def _governed(value: Object) -> Governed | None:
    """A policy; None where it is not as its schema says, which the operator says of it too."""
    try:
        policy, status = Policy.of(value), value.get("status", {})
        dismissed = frozenset(each["name"] for each in status.get("dismissed", ()))
        has_place = status.get("activeSpikes", 0) < policy.budget.concurrent_spikes_max
        return Governed(value, policy, dismissed, policy.mode is Mode.ENFORCE and has_place)
    except ODD as error:
        log.warning("the policy %s cannot be read: %r", value["metadata"]["name"], error)
        return None
