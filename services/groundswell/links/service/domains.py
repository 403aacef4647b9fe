"""Domains: every tenant has one of its own, may add more, and each host leads to one.

Which schemes beside http and https a domain's links may lead to is asked when a link is made or led elsewhere, in the same transaction, and
never remembered; links that are there are left as they are.

Which host leads where is asked at every redirect, so each process remembers it; hosts never move from one domain to another, so what
is remembered stays true, and it is kept even past its time while PostgreSQL is away. What a process has not seen itself is then taken
from what others have left in Valkey.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from groundswell.kernel import context as contexts
from groundswell.kernel import errors as kernel_errors
from groundswell.kernel import postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids
from groundswell.kernel.schemes import WEB
from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.addresses import Addresses
from groundswell.links.model.links import ChosenDomain, Domain
from groundswell.links.model.schemes import checked_schemes
from groundswell.links.service.bulkhead import Bulkhead
from groundswell.links.store.domains import DomainStore, place_of
from groundswell.links.store.targets import CacheAway, TargetCache

log = logging.getLogger(__name__)

DOMAINS_MAX = 1_000
"""Domains of a tenant, its own one included: a list shows them all."""
HOSTS_REMEMBERED_MAX = 10_000
UNKNOWN_HOSTS_MAX = 1_000
"""Anybody can make hosts up: they are remembered apart, lest they push out those that lead somewhere."""
KNOWN_S = 60.0
UNKNOWN_S = 5.0
RETRY_S = 1.0
"""While PostgreSQL is away it is asked for a host no more often than this."""

K = TypeVar("K")
V = TypeVar("V")

SlugOf = Callable[[int], Awaitable[str | None]]
"""The slug of a tenant; None when the news of the tenant does not come."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    domain: Domain
    until_s: float


class Domains:
    """The domains of all tenants. A tenant's own is made on the news of the tenant, or when it is first needed."""

    def __init__(
        self,
        database: postgres.Database,
        bulkhead: Bulkhead,
        cache: TargetCache,
        addresses: Addresses,
        slug_of: SlugOf,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._database = database
        self._bulkhead = bulkhead
        self._cache = cache
        self._addresses = addresses
        self._slug_of = slug_of
        self._ids = ids
        self._clock = clock
        self._defaults: dict[int, Domain] = {}
        self._hosts: dict[str, _Remembered] = {}
        self._unknown_until_s: dict[str, float] = {}

    async def serving(self, host: str) -> Domain | None:
        """The domain that `host` leads to; raises `Unavailable` when it is not remembered and PostgreSQL is away."""
        if len(host) > destinations.HOST_LENGTH_MAX:
            return None
        known, now_s = self._hosts.get(host), self._clock.monotonic_s()
        if known is not None and known.until_s > now_s:
            return known.domain
        if self._unknown_until_s.get(host, 0.0) > now_s:
            return None
        try:
            async with self._bulkhead.entered():
                found = await self._read(host)
        except kernel_errors.Unavailable:
            found = (known.domain if known else None) or await self._left_by_others(host)
            if found is None:
                raise
            self._remember(host, found, RETRY_S)
            return found
        if found is None:
            _put(self._unknown_until_s, host, self._clock.monotonic_s() + UNKNOWN_S, UNKNOWN_HOSTS_MAX)
            return None
        self._remember(host, found, KNOWN_S)
        await self._leave_to_others(host, found)
        return found

    async def of(self, context: Context, host: str) -> Domain:
        """The caller's domain with this host, its default one when empty; raises `DomainUnknown` or `DomainNotReady`."""
        if not host:
            return await self.default(context)
        found = await self.serving(host.lower())
        if found is None or found.tenant != context.require_tenant():
            raise errors.DomainUnknown(host)
        return found

    async def default(self, context: Context) -> Domain:
        """The tenant's own domain, made now if it is not there yet; raises `DomainNotReady` when the tenant is not known here."""
        tenant = context.require_tenant()
        if (known := self._defaults.get(tenant)) is not None:
            return known
        async with self._database.tenant_tx(contexts.service("links", tenant, context.deadline_s)) as tx:
            found = await DomainStore(tx).default()
        if found is None:
            slug = await self._slug_of(tenant)
            if slug is None:
                raise errors.DomainNotReady
            found = await self.make_default(tenant, slug, context.deadline_s)
        return self._remember_default(found)

    async def make_default(self, tenant: int, slug: str, deadline_s: float | None = None) -> Domain:
        """Makes the tenant's own domain and leads its hosts there; asking again changes nothing, at whatever number of places at once."""
        async with self._database.tenant_tx(contexts.service("links", tenant, deadline_s)) as tx:
            store = DomainStore(tx)
            await store.add(
                Domain(self._ids.next(), tenant, self._addresses.default_host(slug), True, self._clock.now_ms())
            )
            made = await store.default()
            if made is None:
                raise errors.DomainNotReady
            for host in self._addresses.hosts_of(slug):
                await store.claim_host(host, made.id)
        for host in self._addresses.hosts_of(slug):
            self._unknown_until_s.pop(host, None)
        return self._remember_default(made)

    async def create(
        self, context: Context, host: str, request: RequestKey, *, schemes: Sequence[str] = ()
    ) -> ChosenDomain:
        """Adds a domain to the caller's tenant.

        Raises `HostInvalid`, `HostReserved`, `HostTaken`, `TooManyDomains`, `SchemeInvalid`, `SchemeNeverAllowed`, `TooManySchemes`.
        """
        checked, chosen = destinations.checked_host(host), checked_schemes(schemes)
        if self._addresses.is_platforms(checked):
            raise errors.HostReserved(checked)
        await self.default(context)
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, ChosenDomain):
                return answered
            store = DomainStore(tx)
            await store.hold()
            if await store.counted() >= DOMAINS_MAX:
                raise errors.TooManyDomains(DOMAINS_MAX)
            domain = ChosenDomain(self._ids.next(), context.tenant, checked, False, self._clock.now_ms(), chosen)
            if not await store.claim_host(checked, domain.id):
                raise errors.HostTaken(checked)
            await store.add(domain)
            await store.set_schemes(domain.id, chosen)
            await tx.answer(request, domain)
        self._unknown_until_s.pop(checked, None)
        return domain

    async def update(
        self, context: Context, domain: int, host: str, schemes: Sequence[str] | None, request: RequestKey
    ) -> ChosenDomain:
        """Gives the caller's domain these schemes, or with None leaves it as it is; an empty `host` is not compared.

        Raises `DomainNotFound`, `HostImmutable` when `host` is another one, `HostInvalid`, `SchemeInvalid`, `SchemeNeverAllowed`,
        `TooManySchemes`.
        """
        chosen = None if schemes is None else checked_schemes(schemes)
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, ChosenDomain):
                return answered
            store = DomainStore(tx)
            found = await store.get(domain, lock=True)
            if found is None:
                raise errors.DomainNotFound
            if host and destinations.checked_host(host) != found.host:
                raise errors.HostImmutable
            if chosen is None:
                chosen = (await store.schemes([domain])).get(domain, ())
            else:
                await store.set_schemes(domain, chosen)
            return await tx.answer(request, _chosen(found, chosen))

    async def all(self, context: Context) -> Sequence[ChosenDomain]:
        """The caller's domains, its own one first."""
        await self.default(context)
        async with self._database.tenant_tx(context) as tx:
            store = DomainStore(tx)
            found = await store.all()
            schemes = await store.schemes([each.id for each in found])
        return [_chosen(each, schemes.get(each.id, ())) for each in found]

    async def looping(self, tx: postgres.Tx, urls: Sequence[str]) -> list[int]:
        """Which of the checked destinations `urls` lead back to the platform or to a domain of the transaction's tenant.

        Other tenants' domains count for nothing: nobody has to prove that a host is his, so he could forbid it to all others.
        """
        parsed = [destinations.checked(url) for url in urls]
        own = await DomainStore(tx).hosts_among({each.host for each in parsed})
        return [
            index
            for index, each in enumerate(parsed)
            if (each.host in own or self._addresses.is_platforms(each.host)) and self._addresses.serves_port(each.port)
        ]

    async def _read(self, host: str) -> Domain | None:
        async with self._database.platform_tx() as tx:
            place = await place_of(tx, host)
        if place is None:
            return None
        tenant, domain = place
        async with self._database.tenant_tx(contexts.service("links", tenant)) as tx:
            return await DomainStore(tx).get(domain)

    async def _left_by_others(self, host: str) -> Domain | None:
        try:
            return await self._cache.read_host(host)
        except CacheAway:
            return None

    async def _leave_to_others(self, host: str, domain: Domain) -> None:
        try:
            await self._cache.write_host(host, domain)
        except CacheAway:
            log.debug("the cache is away, a host is not left there")

    def _remember(self, host: str, domain: Domain, seconds: float) -> None:
        _put(self._hosts, host, _Remembered(domain, self._clock.monotonic_s() + seconds), HOSTS_REMEMBERED_MAX)

    def _remember_default(self, domain: Domain) -> Domain:
        _put(self._defaults, domain.tenant, domain, HOSTS_REMEMBERED_MAX)
        return domain


async def disallowed(tx: postgres.Tx, led: Sequence[tuple[int, str]]) -> list[tuple[int, errors.SchemeNotAllowed]]:
    """Which of `led`, each a link's domain and checked destination, have a scheme that the domain does not allow.

    Those of the web need no leave: where there are no others, nothing is asked; else it is one query.
    """
    asked = [
        (index, domain, scheme)
        for index, (domain, url) in enumerate(led)
        if (scheme := destinations.scheme_of(url)) not in WEB
    ]
    if not asked:
        return []
    allowed = await DomainStore(tx).schemes({domain for _, domain, _ in asked})
    return [
        (index, errors.SchemeNotAllowed(scheme, domain, allowed.get(domain, ())))
        for index, domain, scheme in asked
        if scheme not in allowed.get(domain, ())
    ]


def _chosen(domain: Domain, schemes: tuple[str, ...]) -> ChosenDomain:
    return ChosenDomain(domain.id, domain.tenant, domain.host, domain.is_default, domain.created_ms, schemes)


def _put(memory: dict[K, V], key: K, value: V, entries_max: int) -> None:
    """Remembers `value`, and of the others only so many that were put last."""
    memory.pop(key, None)
    if len(memory) >= entries_max:
        del memory[next(iter(memory))]
    memory[key] = value
