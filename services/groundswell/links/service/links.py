"""Reading, changing and deleting links, and the totals of their clicks.

Any caller of a tenant who may read or change links may do so with all of the tenant's; lists hold the caller's own. A change takes the
link's row, so concurrent changes come one after the other and none is lost; each raises the version and leaves as an event.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from groundswell.kernel import context as contexts
from groundswell.kernel import postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.links import errors
from groundswell.links.events import LinkEvents
from groundswell.links.model import codes
from groundswell.links.model.links import ClickTotal, Draft, Link, checked, judged_anew, merged
from groundswell.links.service.corrections import Corrections
from groundswell.links.service.denials import denied
from groundswell.links.service.domains import Domains, disallowed
from groundswell.links.store.links import LinkStore


@dataclass(frozen=True, slots=True)
class Deleted:
    """The answer that is kept for a request that deleted a link."""

    link: int


class Links:
    """Manages the links of a tenant."""

    def __init__(
        self,
        database: postgres.Database,
        reads: postgres.Reads,
        domains: Domains,
        corrections: Corrections,
        announce: LinkEvents,
        clock: Clock,
    ) -> None:
        self._database = database
        self._reads = reads
        self._domains = domains
        self._corrections = corrections
        self._announce = announce
        self._clock = clock

    async def get(self, context: Context, link: int) -> Link:
        """Raises `LinkNotFound`."""
        async with self._database.tenant_tx(context) as tx:
            return _present(await LinkStore(tx).get(link))

    async def lookup(self, context: Context, host: str, code: str) -> Link:
        """The link with this code on one of the tenant's domains; raises `LinkNotFound`."""
        if not codes.is_code(code):
            raise errors.LinkNotFound
        try:
            domain = await self._domains.of(context, host)
        except errors.DomainUnknown as error:
            raise errors.LinkNotFound from error
        async with self._database.tenant_tx(context) as tx:
            return _present(await LinkStore(tx).with_code(codes.shard_of(domain.id, code), domain.id, code))

    async def page(self, context: Context, before: int, size: int) -> Sequence[Link]:
        """Up to `size` of the caller's links with ids below `before`, newest first."""
        return await self._reads.tenant(context, lambda tx: LinkStore(tx).page(context.actor, before, size))

    async def update(
        self, context: Context, link: int, wanted: Draft, fields: Collection[str], request: RequestKey
    ) -> Link:
        """Gives the link the named fields of the wanted options.

        Raises `LinkNotFound`, what `Creation` raises for options, and `CodeImmutable` when `wanted` names another code or domain.
        """
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, Link):
                return answered
            store = LinkStore(tx)
            before = _present(await store.get(link, lock=True))
            for field, present, asked in (("code", before.code, wanted.code), ("domain", before.domain, wanted.domain)):
                if asked and asked != present:
                    raise errors.CodeImmutable(field)
            options = judged_anew(before.options, checked(merged(before.options, wanted.options, fields)), fields)
            if options == before.options:
                return await tx.answer(request, before)
            if options.destination != before.options.destination:
                for _, refused in await disallowed(tx, [(before.domain_id, options.destination)]):
                    raise refused
                for _, entry in await denied(tx, [options.destination]):
                    raise errors.DestinationDenied(entry)
            if "destination" in fields and await self._domains.looping(tx, [options.destination]):
                raise errors.DestinationRefused("it leads back to a short link's own host.")
            after = replace(before, options=options, updated_ms=self._clock.now_ms(), version=before.version + 1)
            await store.change(before, after)
            await tx.publish(self._announce.changed(before, after))
            await tx.answer(request, after)
        await self._corrections.made([after])
        return after

    async def delete(self, context: Context, link: int, request: RequestKey) -> None:
        """Deletes the link; its code stays reserved for 90 days. Raises `LinkNotFound`."""
        async with self._database.tenant_tx(context) as tx:
            if await tx.replayed(request, Deleted):
                return
            store = LinkStore(tx)
            before = _present(await store.get(link, lock=True))
            after = replace(before, deleted=True, updated_ms=self._clock.now_ms(), version=before.version + 1)
            await store.delete(after)
            await tx.publish(self._announce.deleted(after))
            await tx.answer(request, Deleted(link))
        await self._corrections.made([after])

    async def take_totals(self, tenant: int, totals: Iterable[ClickTotal]) -> None:
        """Takes absolute click totals in; none ever falls, so their order and repetition do not matter."""
        newest: dict[int, ClickTotal] = {}
        for total in totals:
            known = newest.get(total.link, total)
            newest[total.link] = ClickTotal(total.link, max(total.clicks, known.clicks), max(total.bots, known.bots))
        async with self._database.tenant_tx(contexts.service("links", tenant)) as tx:
            await LinkStore(tx).take_totals(list(newest.values()))


def _present(link: Link | None) -> Link:
    if link is None:
        raise errors.LinkNotFound
    return link
