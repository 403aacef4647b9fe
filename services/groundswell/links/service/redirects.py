"""Following a short link: Valkey, then PostgreSQL behind a bulkhead, and either alone when the other is away.

A miss is filled by one reader among all processes; the others wait for what it writes. A record that is still asked for near its end is
read anew behind the visitors' backs. Whether a link is valid, expired or disabled is judged at every redirect by its record, never
remembered as a verdict. The links of a suspended tenant are not found until it is resumed: its absence is nobody's business outside.
"""

import asyncio
import logging
import math
from collections.abc import Container
from dataclasses import dataclass

from prometheus_client import Counter

from groundswell.kernel import context, errors, postgres
from groundswell.kernel.clock import Clock
from groundswell.links.errors import LinkGone, LinkNotFound
from groundswell.links.model import codes
from groundswell.links.model.links import Domain, State, Target
from groundswell.links.service.bulkhead import Bulkhead, told_by
from groundswell.links.service.domains import Domains
from groundswell.links.service.visits import Visits
from groundswell.links.store.links import LinkStore
from groundswell.links.store.targets import CacheAway, TargetCache

log = logging.getLogger(__name__)

FILL_WAIT_S_MAX = 1.2
"""Longer than a lease lasts: who waits takes it over before it reads without one, or a slow database would be asked by all. What is left
of the bulkhead's time is for that reading."""
FILL_POLL_S = 0.005
REFRESHING_MAX = 64

_READS = Counter("groundswell_links_target_reads_total", "Where the targets of redirects came from.", ["source"])


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to send a visitor, and for how long that holds: `lasts_ms` up to the link's end, None when it has none."""

    target: Target
    domain: str
    code: str
    lasts_ms: int | None
    edge_seconds: int


class Redirects:
    """Resolves codes for visitors."""

    def __init__(
        self,
        database: postgres.Database,
        bulkhead: Bulkhead,
        cache: TargetCache,
        domains: Domains,
        visits: Visits,
        suspended: Container[int],
        clock: Clock,
    ) -> None:
        self._database = database
        self._bulkhead = bulkhead
        self._cache = cache
        self._domains = domains
        self._visits = visits
        self._suspended = suspended
        self._clock = clock
        self._fills: dict[tuple[str, str], asyncio.Task[Target | None]] = {}
        self._refreshing: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def resolve(self, host: str, code: str) -> Redirect:
        """Raises `LinkNotFound`, `LinkGone` (expired, disabled or used up) or `Unavailable`.

        Not found is what is unknown, deleted, not yet valid or a suspended tenant's. Whatever it waits for one after the other, a silent
        database is told of before the visitor's time is over.
        """
        until_s = self._bulkhead.until_s()
        if not codes.is_code(code):
            raise LinkNotFound
        domain = await self._domains.serving(host)
        if domain is None or domain.tenant in self._suspended:
            raise LinkNotFound
        target = await self._target(domain, code, until_s)
        if target is None:
            raise LinkNotFound
        now_ms = self._clock.now_ms()
        match target.state(now_ms):
            case State.ABSENT:
                raise LinkNotFound
            case State.ENDED:
                raise LinkGone
        if target.max_visits and not await self._visits.spend(target, until_s):
            raise LinkGone
        lasts_ms, edge_ms = target.lasts_ms(now_ms), target.edge_seconds * 1_000
        edge_ms = edge_ms if lasts_ms is None else min(edge_ms, lasts_ms)
        return Redirect(target, domain.host, code, lasts_ms, edge_ms // 1_000)

    def possible(self) -> bool:
        """Whether one of the engines answered last time; either alone is enough for some redirects."""
        return self._cache.up or self._bulkhead.up

    async def look(self) -> None:
        """Asks both engines for nothing, so that it is known whether they answer."""
        try:
            await self._cache.look()
        except CacheAway:
            log.debug("the cache is still away")
        try:
            async with self._bulkhead.entered(), self._database.platform_tx():
                pass
        except errors.Unavailable:
            log.debug("the database is still away")

    async def _target(self, domain: Domain, code: str, until_s: float) -> Target | None:
        try:
            entry = await self._cache.read(domain.host, code)
        except CacheAway:
            return await self._stored(domain, code, until_s)
        if entry is None:
            return await self._filled(domain, code, until_s)
        if entry.refresh_at_ms <= self._clock.now_ms():
            self._refresh(domain, code)
        _READS.labels("cache").inc()
        return entry.target

    async def _stored(self, domain: Domain, code: str, until_s: float = math.inf) -> Target | None:
        _READS.labels("database").inc()
        async with (
            self._bulkhead.entered(until_s),
            self._database.tenant_tx(context.service("links", domain.tenant)) as tx,
        ):
            return await LinkStore(tx).target(codes.shard_of(domain.id, code), domain.id, code)

    async def _filled(self, domain: Domain, code: str, until_s: float) -> Target | None:
        """Fills a miss, once a process however many visitors ask; one who gives up does not stop the fill for the others."""
        place = (domain.host, code)
        fill = self._fills.get(place)
        if fill is None:
            fill = self._fills[place] = asyncio.create_task(self._fill(domain, code))
            fill.add_done_callback(lambda done: self._landed(place, done))
        async with told_by(until_s):
            return await asyncio.shield(fill)

    def _landed(self, place: tuple[str, str], fill: "asyncio.Task[Target | None]") -> None:
        del self._fills[place]
        if not fill.cancelled():
            fill.exception()  # read here, in case everybody who waited has left

    async def _fill(self, domain: Domain, code: str) -> Target | None:
        """Reads the link if no other process does, else waits for that one's record; in doubt reads it itself."""
        waited_until = self._clock.monotonic_s() + FILL_WAIT_S_MAX
        try:
            while not await self._cache.lease_fill(domain.host, code):
                await asyncio.sleep(FILL_POLL_S)
                if (entry := await self._cache.read(domain.host, code)) is not None:
                    return entry.target
                if self._clock.monotonic_s() > waited_until:
                    return await self._stored(domain, code)
        except CacheAway:
            return await self._stored(domain, code)
        return await self._fill_leased(domain, code)

    async def _fill_leased(self, domain: Domain, code: str) -> Target | None:
        """Reads and remembers. The lease is left to end by itself, so that who saw the miss too finds the record, not the lease free."""
        try:
            target = await self._stored(domain, code)
        except BaseException:
            await self._release(domain, code)
            raise
        try:
            await self._cache.write(domain.host, code, target)
        except CacheAway:
            log.debug("the cache went away during a fill")
        return target

    async def _release(self, domain: Domain, code: str) -> None:
        try:
            await self._cache.release_fill(domain.host, code)
        except CacheAway:
            log.debug("a lease on a fill ends by itself")

    def _refresh(self, domain: Domain, code: str) -> None:
        """Starts reading a record anew, unless this process does so already or has enough to do."""
        place = (domain.host, code)
        if place not in self._refreshing and len(self._refreshing) < REFRESHING_MAX:
            task = self._refreshing[place] = asyncio.create_task(self._refreshed(domain, code))
            task.add_done_callback(lambda _: self._refreshing.pop(place))

    async def _refreshed(self, domain: Domain, code: str) -> None:
        try:
            if await self._cache.lease_fill(domain.host, code):
                await self._fill_leased(domain, code)
        except errors.Unavailable:
            log.debug("a record stays as it is, its source is away")
