"""Links as events: each carries the whole link and its version, and what a redirect needs can be read back from it."""

from groundswell.api.links.v1 import links_events_pb2 as events_pb
from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.kernel import bus
from groundswell.links.model.addresses import Addresses
from groundswell.links.model.links import REDIRECT_DEFAULT, Link, Target

TOPIC = "links.events.v1"

LinkEvent = events_pb.LinkCreated | events_pb.LinkUpdated | events_pb.LinkDisabled | events_pb.LinkDeleted
_KINDS: dict[str, type[LinkEvent]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (events_pb.LinkCreated, events_pb.LinkUpdated, events_pb.LinkDisabled, events_pb.LinkDeleted)
}


class LinkEvents:
    """Makes the events of links; short URLs in them read as at `addresses`. Those that make an answer old do not wait for new links'."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def created(self, link: Link, *, own_code: bool) -> bus.Outgoing:
        event = events_pb.LinkCreated(link=to_proto(link, self._addresses), version=link.version, own_code=own_code)
        return bus.Outgoing(TOPIC, str(link.id), event)

    def changed(self, before: Link, after: Link) -> bus.Outgoing:
        """LinkDisabled when the change switched the link off, LinkUpdated otherwise."""
        disabled = before.options.active and not after.options.active
        return self._outgoing(after, events_pb.LinkDisabled if disabled else events_pb.LinkUpdated)

    def deleted(self, link: Link) -> bus.Outgoing:
        return self._outgoing(link, events_pb.LinkDeleted)

    def _outgoing(self, link: Link, kind: type[LinkEvent]) -> bus.Outgoing:
        event = kind(link=to_proto(link, self._addresses), version=link.version)
        return bus.Outgoing(TOPIC, str(link.id), event, urgent=True)


def corrected(link: int, tenant: int, domain: str, code: str) -> bus.Outgoing:
    """What anybody kept of the link may be older than its last change; it has a key of its own, so that it takes no change's place."""
    return bus.Outgoing(TOPIC, f"{link}/corrected", events_pb.LinkCorrected(domain=domain, code=code), tenant)


def to_proto(link: Link, addresses: Addresses) -> pb.Link:
    """The link as API and events show it."""
    chosen = link.options
    message = pb.Link(
        name=f"links/{link.id}",
        destination=chosen.destination,
        code=link.code,
        domain=link.domain,
        max_visits=chosen.max_visits,
        disabled=not chosen.active,
        redirect_status=chosen.redirect_status,
        edge_seconds=chosen.edge_seconds,
        title=chosen.title,
        tags=chosen.tags,
        click_count=link.clicks,
        bot_count=link.bots,
        short_url=addresses.short_url(link.domain, link.code),
        owner=link.owner,
        suspicious=chosen.suspicious,
    )
    message.create_time.FromMilliseconds(link.created_ms)
    message.update_time.FromMilliseconds(link.updated_ms)
    if chosen.valid_since_ms is not None:
        message.valid_since.FromMilliseconds(chosen.valid_since_ms)
    if chosen.expires_ms is not None:
        message.expire_time.FromMilliseconds(chosen.expires_ms)
    return message


def target_of(type_: str, tenant: int, body: bytes) -> tuple[str, str, Target] | None:
    """Domain, code and target after an event of links.events.v1; None when nothing that is remembered can be wrong after it.

    Nobody can know a generated code before its link is made, so nobody can remember its absence.
    """
    kind = _KINDS.get(type_)
    if kind is None:
        return None
    event = kind.FromString(body)
    if isinstance(event, events_pb.LinkCreated) and not event.own_code:
        return None
    link = event.link
    target = Target(
        link=int(link.name.partition("/")[2]),
        tenant=tenant,
        version=event.version,
        destination=link.destination,
        redirect_status=link.redirect_status or REDIRECT_DEFAULT,
        edge_seconds=link.edge_seconds,
        valid_since_ms=link.valid_since.ToMilliseconds() if link.HasField("valid_since") else None,
        expires_ms=link.expire_time.ToMilliseconds() if link.HasField("expire_time") else None,
        max_visits=link.max_visits,
        active=not link.disabled,
        deleted=kind is events_pb.LinkDeleted,
        suspicious=link.suspicious,
    )
    return link.domain, link.code, target
