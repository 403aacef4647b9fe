"""Keeping what Valkey remembers true: every change of a link is written there up to three times, and versions make repeating harmless.

Right after the commit (so that who made the change sees it), before the event of it is published (so that nobody who heard of it can
fill a cache from an old record), and by a consumer of the events, which does not give up (so that a change made while Valkey was away is
there within a moment of its return). Where only the consumer could, a near cache may have been filled from the old record after it was
purged; it is told to forget that then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from groundswell.kernel import bus
from groundswell.kernel.bus.relay import Outbound
from groundswell.links import events
from groundswell.links.model.links import Link, Target
from groundswell.links.store.targets import CacheAway, TargetCache

log = logging.getLogger(__name__)

RETRY_S = 0.1

Correction = tuple[str, str, Target]
"""Domain, code and what is true of them."""
Publish = Callable[[Sequence[bus.Outgoing]], Awaitable[None]]
"""Sends events without an outbox; returns when the log has them, however long that takes."""


class Corrections:
    """Writes what became true into the cache."""

    def __init__(self, cache: TargetCache, publish: Publish) -> None:
        self._cache = cache
        self._publish = publish

    async def made(self, links: Iterable[Link]) -> None:
        """These changes have just been committed. While Valkey is away the event's consumer makes up for it."""
        await self._try([(link.domain, link.code, link.target()) for link in links])

    async def before_publish(self, rows: Sequence[Outbound]) -> None:
        """Events are about to leave the outbox; a hook of the relay."""
        told = [events.target_of(row.headers["ce_type"], int(row.headers["ce_tenantid"]), row.body) for row in rows]
        await self._try([each for each in told if each is not None])

    async def heard(self, incoming: Sequence[bus.Incoming]) -> None:
        """Events have arrived; returns once Valkey holds nothing older than what they say, however long that takes."""
        told = [events.target_of(event.type, event.tenant, event.body) for event in incoming]
        corrections = [each for each in told if each is not None]
        waited = False
        while (older := await self._try(corrections)) is None:
            waited = True
            await asyncio.sleep(RETRY_S)
        late = [each for each, was_older in zip(corrections, older, strict=True) if was_older or waited]
        if late:
            await self._publish(
                [events.corrected(target.link, target.tenant, domain, code) for domain, code, target in late]
            )

    async def _try(self, corrections: Sequence[Correction]) -> Sequence[bool] | None:
        """Which corrections met an older record; None while Valkey is away."""
        try:
            return await asyncio.gather(*(self._cache.correct(*each) for each in corrections))
        except CacheAway:
            log.debug("the cache is away, %d corrections wait for their events", len(corrections))
            return None
