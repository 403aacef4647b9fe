"""The ScaledObjects of a namespace, in a cluster that may have no KEDA.

The list is the question whether the kind is served. Where it is not, that costs one request in five minutes. Where something tells of KEDA
it is asked again sooner: an autoscaler that belongs to a ScaledObject, or that there were some before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from groundswell_operator.applying.errors import Refused
from groundswell_operator.applying.requests import Asking
from groundswell_operator.policies import Object

log = logging.getLogger(__name__)

ABSENT_S = 300.0
"""Between two questions where nothing tells of KEDA."""
TOLD_S = 10.0
"""And where something does."""
FORBIDDEN, UNKNOWN = 403, 404


class ScaledObjects:
    """A namespace's, at `path`; `clock` is monotonic."""

    def __init__(self, requests: Asking, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests, self._path, self._clock = requests, path, clock
        self._asked_s: float | None = None
        self._refusal: int | None = UNKNOWN
        """Why there were none to be read at the last question; None when there were."""
        self._known = False
        """Whether there ever were."""

    async def listed(self) -> Sequence[Object] | None:
        """All of them, as they are now; None where they cannot be read, as it was said no longer ago than `ABSENT_S`."""
        if self._refusal is not None and not self._due(TOLD_S if self._known else ABSENT_S):
            return None
        return await self._list()

    async def told_of(self) -> Sequence[Object] | None:
        """The same once something has told of KEDA though there were none to be read."""
        return await self._list() if self._due(TOLD_S) else None

    def _due(self, pause_s: float) -> bool:
        return self._asked_s is None or self._clock() - self._asked_s >= pause_s

    async def _list(self) -> Sequence[Object] | None:
        self._asked_s = self._clock()
        try:
            found: Sequence[Object] = (await self._requests.get(self._path))["items"]
        except Refused as refused:
            if refused.status not in (FORBIDDEN, UNKNOWN):
                raise
            if refused.status == FORBIDDEN != self._refusal:
                log.warning("ScaledObjects may not be read, so what they govern is not scaled: %s", refused)
            self._refusal = refused.status
            return None
        self._refusal, self._known = None, True
        return found
