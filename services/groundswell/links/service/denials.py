"""Hosts that a tenant denies: the list, and what it says of destinations.

It is asked when a link is made or led elsewhere, in the same transaction, and never by a redirect: links that led to a host before it
was denied are left as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from groundswell.kernel import postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids
from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.denials import DeniedHost, checked_entry, entries_denying
from groundswell.links.service.domains import Domains
from groundswell.links.store.denials import DenialStore
from groundswell.links.store.domains import DomainStore

DENIED_HOSTS_MAX = 10_000
"""Entries of a tenant."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The answer that is kept for a request that took an entry off the list."""

    entry: int


class Denials:
    """The lists of all tenants."""

    def __init__(
        self, database: postgres.Database, reads: postgres.Reads, domains: Domains, ids: Ids, clock: Clock
    ) -> None:
        self._database = database
        self._reads = reads
        self._domains = domains
        self._ids = ids
        self._clock = clock

    async def create(self, context: Context, host: str, request: RequestKey) -> DeniedHost:
        """Adds an entry to the list of the caller's tenant; raises `DeniedHostInvalid`, `DeniedHostExists`, `TooManyDeniedHosts`."""
        checked = checked_entry(host)
        await self._domains.default(context)
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, DeniedHost):
                return answered
            await DomainStore(tx).hold()
            store = DenialStore(tx)
            if await store.counted() >= DENIED_HOSTS_MAX:
                raise errors.TooManyDeniedHosts(DENIED_HOSTS_MAX)
            entry = DeniedHost(self._ids.next(), context.tenant, checked, self._clock.now_ms())
            if not await store.add(entry):
                raise errors.DeniedHostExists(checked)
            return await tx.answer(request, entry)

    async def page(self, context: Context, before: int, size: int) -> Sequence[DeniedHost]:
        """Up to `size` entries of the caller's tenant with ids below `before`, newest first."""
        return await self._reads.tenant(context, lambda tx: DenialStore(tx).page(before, size))

    async def delete(self, context: Context, entry: int, request: RequestKey) -> None:
        """Takes an entry off the list; raises `DeniedHostNotFound`."""
        async with self._database.tenant_tx(context) as tx:
            if await tx.replayed(request, Removed):
                return
            if not await DenialStore(tx).delete(entry):
                raise errors.DeniedHostNotFound
            await tx.answer(request, Removed(entry))


async def denied(tx: postgres.Tx, urls: Sequence[str]) -> list[tuple[int, str]]:
    """Which of the checked destinations `urls` the transaction's tenant denies, each with the closest entry that does; one query."""
    asked = [entries_denying(destinations.checked(url).host) for url in urls]
    listed = await DenialStore(tx).among({entry for entries in asked for entry in entries})
    return [
        (index, next(entry for entry in entries if entry in listed))
        for index, entries in enumerate(asked)
        if not listed.isdisjoint(entries)
    ]
