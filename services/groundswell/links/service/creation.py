"""Creating links, one or many: all of a request's links, with their events and the answer, in one transaction.

Codes are drawn and everything is checked before the transaction begins, so it is short and waits for nobody but a concurrent claim of
the same code. A generated code that somebody has claimed as an own one before is met by the unique key, and the next is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from groundswell.kernel import errors as kernel_errors
from groundswell.kernel import postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.errors import FieldViolation
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids
from groundswell.links import errors
from groundswell.links.events import LinkEvents
from groundswell.links.model import codes
from groundswell.links.model.links import (
    BATCH_LINKS_MAX,
    RESERVED_AFTER_DELETE_MS,
    Domain,
    Draft,
    Link,
    Options,
    checked,
    find_digest,
    judged,
)
from groundswell.links.service.codes import Codes
from groundswell.links.service.corrections import Corrections
from groundswell.links.service.denials import denied
from groundswell.links.service.domains import Domains, disallowed
from groundswell.links.store.links import LinkStore

TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Made:
    """The answer that is kept for a request that created links."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A draft that may become a link, its options as they are stored, and the domain it will live on."""

    draft: Draft
    options: Options
    domain: Domain
    length: int


class _DrawAgain(Exception):
    """A generated code (or an id) is in use; the transaction is given up."""


class Creation:
    """Makes links."""

    def __init__(
        self,
        database: postgres.Database,
        domains: Domains,
        codes_: Codes,
        corrections: Corrections,
        announce: LinkEvents,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._database = database
        self._domains = domains
        self._codes = codes_
        self._corrections = corrections
        self._announce = announce
        self._ids = ids
        self._clock = clock

    async def create(
        self, context: Context, draft: Draft, request: RequestKey, *, find_if_exists: bool = False
    ) -> Link:
        """One link; with `find_if_exists` the caller's newest lasting one with the same destination and options, if there is one.

        Raises `DestinationRefused`, `SchemeNotAllowed`, `DestinationDenied`, `OptionInvalid`, `OptionsContradict`, `CodeInvalid`,
        `CodeReserved`, `CodeProfane`, `CodeTaken`, `CodeLengthInvalid`, `CodesExhausted`, `DomainUnknown`, `DomainNotReady`.
        """
        wanted = [await self._wanted(context, draft)]
        return (await self._made(context, wanted, request, find=find_if_exists))[0]

    async def create_batch(self, context: Context, drafts: Sequence[Draft], request: RequestKey) -> Sequence[Link]:
        """1 to 1,000 links, all or none; raises what `create` raises, with the place of the link in the field, and `BatchSizeInvalid`."""
        if not 1 <= len(drafts) <= BATCH_LINKS_MAX:
            raise errors.BatchSizeInvalid(BATCH_LINKS_MAX)
        wanted = []
        for index, draft in enumerate(drafts):
            try:
                wanted.append(await self._wanted(context, draft))
            except kernel_errors.Error as error:
                raise _located(error, index) from error
        return await self._made(context, wanted, request, batch=True)

    async def _wanted(self, context: Context, draft: Draft) -> _Wanted:
        length = codes.checked_length(draft.code_length)
        if draft.code:
            codes.checked_own(draft.code)
        return _Wanted(draft, judged(checked(draft.options)), await self._domains.of(context, draft.domain), length)

    async def _made(
        self,
        context: Context,
        wanted: Sequence[_Wanted],
        request: RequestKey,
        *,
        find: bool = False,
        batch: bool = False,
    ) -> Sequence[Link]:
        for _ in range(TRIES_MAX):
            links = await self._composed(context, wanted)
            try:
                answer, made = await self._written(context, wanted, links, request, find=find, batch=batch)
            except _DrawAgain:
                continue
            # Nobody can have asked for a generated code before; and an answer of before may have changed since.
            if made:
                await self._corrections.made(link for link, each in zip(answer, wanted, strict=True) if each.draft.code)
            return answer
        raise kernel_errors.Conflict("Concurrent requests took the codes. Try again.", retry_after_s=0.1)

    async def _composed(self, context: Context, wanted: Sequence[_Wanted]) -> list[Link]:
        """Links as they will be written, with the codes that they get or ask for."""
        counts: dict[tuple[Domain, int], int] = {}
        for each in wanted:
            if not each.draft.code:
                counts[each.domain, each.length] = counts.get((each.domain, each.length), 0) + 1
        drawn = {lane: iter(await self._codes.draw(*lane, count, context.deadline_s)) for lane, count in counts.items()}
        now_ms = self._clock.now_ms()
        links = []
        for each in wanted:
            code = each.draft.code or next(drawn[each.domain, each.length])
            id_ = self._ids.next(codes.shard_of(each.domain.id, code))
            links.append(
                Link(
                    id=id_,
                    tenant=each.domain.tenant,
                    domain_id=each.domain.id,
                    domain=each.domain.host,
                    code=code,
                    owner=context.actor,
                    options=each.options,
                    created_ms=now_ms,
                    updated_ms=now_ms,
                )
            )
        return links

    async def _written(
        self,
        context: Context,
        wanted: Sequence[_Wanted],
        links: Sequence[Link],
        request: RequestKey,
        *,
        find: bool,
        batch: bool,
    ) -> tuple[Sequence[Link], bool]:
        """The answer, and whether its links were made now."""
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, Made):
                return answered.links, False
            urls = [link.options.destination for link in links]
            for index, refused in await disallowed(tx, [(link.domain_id, link.options.destination) for link in links]):
                raise _placed(refused, index, batch)
            for index, entry in await denied(tx, urls):
                raise _placed(errors.DestinationDenied(entry), index, batch)
            store = LinkStore(tx)
            if find and (found := await self._found(store, wanted[0].draft, links[0])):
                return (await tx.answer(request, Made((found,)))).links, False
            for index in await self._domains.looping(tx, urls):
                raise _placed(errors.DestinationRefused("it leads back to a short link's own host."), index, batch)
            links = await self._added(store, wanted, links, batch)
            announced = (
                self._announce.created(link, own_code=bool(each.draft.code))
                for link, each in zip(links, wanted, strict=True)
            )
            await tx.publish(*announced)
            return (await tx.answer(request, Made(tuple(links)))).links, True

    async def _added(
        self, store: LinkStore, wanted: Sequence[_Wanted], links: Sequence[Link], batch: bool
    ) -> Sequence[Link]:
        """The links as they are stored: one whose code another had before begins above that one's last version."""
        free_ms = self._clock.now_ms() - RESERVED_AFTER_DELETE_MS
        added = [
            replace(link, version=await store.release_code(link, free_ms) + 1) if each.draft.code else link
            for link, each in zip(links, wanted, strict=True)
        ]
        for link in await store.add(added[0].owner, added):
            index = added.index(link)
            if wanted[index].draft.code and await store.code_exists(link):
                raise _placed(errors.CodeTaken(link.code, link.domain), index, batch)
            raise _DrawAgain
        return added

    async def _found(self, store: LinkStore, draft: Draft, link: Link) -> Link | None:
        now_ms = self._clock.now_ms()
        alike = await store.alike(link.owner, find_digest(link.domain_id, link.options))
        return next((each for each in alike if each.lasts(now_ms) and draft.is_met_by(each)), None)


def _placed(error: kernel_errors.Error, index: int, batch: bool) -> kernel_errors.Error:
    return _located(error, index) if batch else error


def _located(error: kernel_errors.Error, index: int) -> kernel_errors.Error:
    """`error` about the link at `index` of a batch: its fields say so."""
    error.fields = tuple(
        FieldViolation(each.field.replace("link.", f"links[{index}].", 1), each.description) for each in error.fields
    )
    return error
