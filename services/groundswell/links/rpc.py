"""The edge of links: proto in, use case, proto out."""

from collections.abc import Collection, Sequence

from google.protobuf import empty_pb2, field_mask_pb2
from google.protobuf.message import Message

from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.api.links.v1 import links_pb2_grpc
from groundswell.kernel import pagination, rpc
from groundswell.links import errors
from groundswell.links.events import to_proto
from groundswell.links.model.addresses import Addresses
from groundswell.links.model.denials import DeniedHost
from groundswell.links.model.links import REDIRECT_DEFAULT, ChosenDomain, Draft, Link, Options
from groundswell.links.service.creation import Creation
from groundswell.links.service.denials import Denials
from groundswell.links.service.domains import Domains
from groundswell.links.service.links import Links
from groundswell.links.service.redirects import Redirects

_NEWEST = (1 << 63) - 1
_CHANGEABLE = {
    "destination": "destination",
    "expire_time": "expires_ms",
    "valid_since": "valid_since_ms",
    "max_visits": "max_visits",
    "disabled": "active",
    "redirect_status": "redirect_status",
    "edge_seconds": "edge_seconds",
    "title": "title",
    "tags": "tags",
    "suspicious": "suspicious",
}
_CHANGEABLE_OF_DOMAINS = ("schemes",)


class LinkRpc(links_pb2_grpc.LinkServiceServicer):
    """LinkService."""

    def __init__(
        self,
        creation: Creation,
        links: Links,
        domains: Domains,
        denials: Denials,
        redirects: Redirects,
        addresses: Addresses,
        page_key: bytes,
    ) -> None:
        self._creation = creation
        self._links = links
        self._domains = domains
        self._denials = denials
        self._redirects = redirects
        self._addresses = addresses
        self._page_key = page_key

    async def CreateLink(self, request: pb.CreateLinkRequest, call: rpc.Call) -> pb.Link:
        made = await self._creation.create(
            call.context, _draft(request.link), call.request, find_if_exists=request.find_if_exists
        )
        return self._shown(made)

    async def BatchCreateLinks(
        self, request: pb.BatchCreateLinksRequest, call: rpc.Call
    ) -> pb.BatchCreateLinksResponse:
        made = await self._creation.create_batch(call.context, [_draft(link) for link in request.links], call.request)
        return pb.BatchCreateLinksResponse(links=[self._shown(link) for link in made])

    async def GetLink(self, request: pb.GetLinkRequest, call: rpc.Call) -> pb.Link:
        return self._shown(await self._links.get(call.context, _id(request.name)))

    async def LookupLink(self, request: pb.LookupLinkRequest, call: rpc.Call) -> pb.Link:
        return self._shown(await self._links.lookup(call.context, request.domain, request.code))

    async def ListLinks(self, request: pb.ListLinksRequest, call: rpc.Call) -> pb.ListLinksResponse:
        size, scope = pagination.size(request.page_size), f"links/{call.context.tenant}/{call.context.actor}"
        before = pagination.position(request.page_token, scope, self._page_key) or [_NEWEST]
        found = await self._links.page(call.context, int(before[0]), size + 1)
        page, token = pagination.cut(found, size, lambda link: [link.id], scope, self._page_key)
        return pb.ListLinksResponse(links=[self._shown(link) for link in page], next_page_token=token)

    async def UpdateLink(self, request: pb.UpdateLinkRequest, call: rpc.Call) -> pb.Link:
        wanted, fields = _draft(request.link), [_CHANGEABLE[path] for path in _paths(request)]
        return self._shown(await self._links.update(call.context, _id(request.link.name), wanted, fields, call.request))

    async def DeleteLink(self, request: pb.DeleteLinkRequest, call: rpc.Call) -> empty_pb2.Empty:
        await self._links.delete(call.context, _id(request.name), call.request)
        return empty_pb2.Empty()

    async def CreateDomain(self, request: pb.CreateDomainRequest, call: rpc.Call) -> pb.Domain:
        wanted = request.domain
        return _domain(
            await self._domains.create(call.context, wanted.host, call.request, schemes=list(wanted.schemes))
        )

    async def UpdateDomain(self, request: pb.UpdateDomainRequest, call: rpc.Call) -> pb.Domain:
        wanted = request.domain
        id_ = rpc.id_of(wanted.name, "domains", errors.DomainNotFound)
        named = "schemes" in _named(request.update_mask, wanted, _CHANGEABLE_OF_DOMAINS, "domain")
        schemes = list(wanted.schemes) if named else None
        host = wanted.host if list(request.update_mask.paths) in ([], ["*"]) else ""  # a mask says what is meant
        return _domain(await self._domains.update(call.context, id_, host, schemes, call.request))

    async def ListDomains(self, request: pb.ListDomainsRequest, call: rpc.Call) -> pb.ListDomainsResponse:
        return pb.ListDomainsResponse(domains=[_domain(domain) for domain in await self._domains.all(call.context)])

    async def CreateDeniedHost(self, request: pb.CreateDeniedHostRequest, call: rpc.Call) -> pb.DeniedHost:
        return _denied(await self._denials.create(call.context, request.denied_host.host, call.request))

    async def ListDeniedHosts(self, request: pb.ListDeniedHostsRequest, call: rpc.Call) -> pb.ListDeniedHostsResponse:
        size, scope = pagination.size(request.page_size), f"deniedHosts/{call.context.tenant}"
        before = pagination.position(request.page_token, scope, self._page_key) or [_NEWEST]
        found = await self._denials.page(call.context, int(before[0]), size + 1)
        page, token = pagination.cut(found, size, lambda entry: [entry.id], scope, self._page_key)
        return pb.ListDeniedHostsResponse(denied_hosts=[_denied(entry) for entry in page], next_page_token=token)

    async def DeleteDeniedHost(self, request: pb.DeleteDeniedHostRequest, call: rpc.Call) -> empty_pb2.Empty:
        entry = rpc.id_of(request.name, "deniedHosts", errors.DeniedHostNotFound)
        await self._denials.delete(call.context, entry, call.request)
        return empty_pb2.Empty()

    async def ResolveLink(self, request: pb.ResolveLinkRequest, call: rpc.Call) -> pb.ResolveLinkResponse:
        found = await self._redirects.resolve(request.domain, request.code)
        answer = pb.ResolveLinkResponse(
            location=found.target.destination,
            redirect_status=found.target.redirect_status,
            link_id=found.target.link,
            tenant_id=found.target.tenant,
            domain=found.domain,
            code=found.code,
            edge_seconds=found.edge_seconds,
            preview=found.target.suspicious,
        )
        if found.lasts_ms is not None:
            answer.cache_ttl.FromMilliseconds(found.lasts_ms)
        return answer

    def _shown(self, link: Link) -> pb.Link:
        return to_proto(link, self._addresses)


def _id(name: str) -> int:
    return rpc.id_of(name, "links", errors.LinkNotFound)


def _draft(link: pb.Link) -> Draft:
    return Draft(options=_options(link), code=link.code, code_length=link.code_length, domain=link.domain)


def _options(link: pb.Link) -> Options:
    return Options(
        destination=link.destination,
        valid_since_ms=rpc.moment_ms(link, "valid_since", "link."),
        expires_ms=rpc.moment_ms(link, "expire_time", "link."),
        max_visits=link.max_visits,
        active=not link.disabled,
        redirect_status=link.redirect_status or REDIRECT_DEFAULT,
        edge_seconds=link.edge_seconds,
        title=link.title,
        tags=tuple(link.tags),
        suspicious=link.suspicious,
    )


def _paths(request: pb.UpdateLinkRequest) -> Sequence[str]:
    paths = _named(request.update_mask, request.link, _CHANGEABLE, "link")
    if list(request.update_mask.paths) == ["*"] and not request.link.HasField("suspicious"):
        # Who does not know that a link may be suspicious does not say that this one is not.
        return [path for path in paths if path != "suspicious"]
    return paths


def _named(mask: field_mask_pb2.FieldMask, body: Message, changeable: Collection[str], kind: str) -> Sequence[str]:
    """The fields to change: those that the mask names, all for `*`, or without a mask those that the body holds."""
    if not mask.paths:
        return [field.name for field, _ in body.ListFields() if field.name in changeable]
    if list(mask.paths) == ["*"]:
        return list(changeable)
    for path in mask.paths:
        if path not in changeable:
            raise errors.MaskInvalid(path, kind)
    return mask.paths


def _domain(domain: ChosenDomain) -> pb.Domain:
    return pb.Domain(
        name=f"domains/{domain.id}", host=domain.host, is_default=domain.is_default, schemes=domain.schemes
    )


def _denied(entry: DeniedHost) -> pb.DeniedHost:
    message = pb.DeniedHost(name=f"deniedHosts/{entry.id}", host=entry.host)
    message.create_time.FromMilliseconds(entry.created_ms)
    return message
