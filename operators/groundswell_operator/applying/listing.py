"""The spikes of a namespace. Those that are over are many and large, and hardly change: they are listed now and then, the others each time.

A spike that was not over when it was last listed, and is not among these any more, has gone or is over since: then all are listed at once.
So what is remembered of those that are over is behind by what somebody else has done to them, for half a minute at most. A step that was
decided on that names a version which is not there any more, and all are listed after each step on one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from groundswell_operator.applying import reading
from groundswell_operator.applying.errors import Refused
from groundswell_operator.applying.reading import Owners
from groundswell_operator.applying.requests import Asking
from groundswell_operator.policies import Object
from groundswell_operator.saga.state import OVER, Spike

PAGE = 250
"""Spikes in one answer."""
WHOLE_S = 30.0
"""After which all are listed, as in every pass while nothing happens."""
NOT_OVER = ",".join(f"status.phase!={each.value}" for each in OVER)
BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Listed:
    """Spikes by name, of one moment, and whose they are."""

    spikes: Mapping[str, Spike] = field(default_factory=dict)
    owners: Owners = field(default_factory=dict)

    def only(self, keeps: Callable[[Spike], bool]) -> Listed:
        """Some of them."""
        spikes = {name: each for name, each in self.spikes.items() if keeps(each)}
        return Listed(spikes, {name: each for name, each in self.owners.items() if name in spikes})

    def beside(self, others: Listed) -> Listed:
        """These, and of the others those that are not among them."""
        return Listed({**others.spikes, **self.spikes}, {**others.owners, **self.owners})


class Listing:
    """What is known of the spikes from one look to the next."""

    def __init__(self, requests: Asking, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests, self._path, self._clock = requests, path, clock
        self._over: Listed | None = None
        """Those that were over when all were listed; None before that, or since it may be otherwise."""
        self._uids: frozenset[str] = frozenset()
        """The others, at the last look."""
        self._whole_s = float("-inf")
        self._forgotten = 0
        self._selects = True
        """Whether the API server can tell them apart: from Kubernetes 1.31 on."""

    async def listed(self) -> Listed:
        """All spikes; raises what `Requests` does."""
        if self._over is not None and self._clock() - self._whole_s < WHOLE_S:
            found = await self._not_over()
            if found is not None and self._uids <= (uids := _uids(found)):
                self._uids = uids
                return found.beside(self._over)
        return await self._whole()

    def forget(self) -> None:
        """What is known of those that are over may not be so any more."""
        self._over = None
        self._forgotten += 1

    async def _whole(self) -> Listed:
        forgotten, began_s = self._forgotten, self._clock()
        found = await self._pages({"limit": str(PAGE)})
        self._uids = _uids(found.only(lambda each: not _is_over(each)))
        if self._selects and forgotten == self._forgotten:
            self._over, self._whole_s = found.only(_is_over), began_s
        return found

    async def _not_over(self) -> Listed | None:
        """Those that are not over; None where the API server cannot tell."""
        try:
            return await self._pages({"limit": str(PAGE), "fieldSelector": NOT_OVER})
        except Refused as refused:
            if refused.status != BAD_REQUEST:
                raise
            self._selects, self._over = False, None
            return None

    async def _pages(self, asked: Mapping[str, str]) -> Listed:
        found, rest = Listed(), dict(asked)
        while True:
            answer = await self._requests.get(self._path, **rest)
            found = _listed(answer["items"]).beside(found)
            more = answer["metadata"].get("continue")
            if not more:
                return found
            rest["continue"] = more


def _listed(values: Sequence[Object]) -> Listed:
    owners = {each["metadata"]["name"]: reading.owner(each["metadata"]) for each in values}
    return Listed(
        {each["metadata"]["name"]: reading.spike(each) for each in values},
        {name: (each["name"], each["uid"]) for name, each in owners.items() if each},
    )


def _uids(found: Listed) -> frozenset[str]:
    return frozenset(each.uid for each in found.spikes.values())


def _is_over(spike: Spike) -> bool:
    return spike.unread is None and spike.progress.phase in OVER
