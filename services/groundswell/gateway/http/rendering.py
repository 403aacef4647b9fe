"""Answers rendered once: status, headers and bytes that can leave a thousand times.

Caching headers follow RFC 9111, 9213 and 5861: what a shared cache may keep says so to it alone (`CDN-Cache-Control`, `s-maxage`),
all else is `no-store`.
"""

from urllib.parse import quote

import xxhash
from google.protobuf import duration_pb2, empty_pb2
from google.protobuf.message import Message

from groundswell.api.gateway.v1 import edge_pb2
from groundswell.gateway.http import preview, replies, transcoder
from groundswell.gateway.http.routes import Route
from groundswell.gateway.model.answers import Answer, Counted

NO_STORE = (b"cache-control", b"no-store")
PRIVATE_NO_STORE = (b"cache-control", b"private, no-store")
NOSNIFF = (b"x-content-type-options", b"nosniff")
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
REDIRECT_STATUS = 302
_EMPTY = empty_pb2.Empty.DESCRIPTOR.full_name
_LOCATION_SAFE = "".join(chr(code) for code in range(0x21, 0x7F))


def answer(route: Route, message: Message, asked_s: float, now_s: float) -> Answer:
    """The answer to a call that was made at `asked_s` and ended now (`Answers.now_s`)."""
    edge, previewed = route.edge, _previewed(route, message)
    status, headers, body = _content(route, message)
    made = Answer(status=status, headers=(), body=body, stored_s=now_s)
    if route.cacheable:
        kept = _kept(made, edge.cache, message, asked_s, shared=not previewed)
        if kept != [PRIVATE_NO_STORE] or (body and not previewed):
            made.etag = _etag(status, dict(headers).get(b"location", b""), body)
        headers += kept
    else:
        headers.append(NO_STORE)
    made.headers = tuple(headers)
    if made.kept:
        made.zipped = replies.gzipped(headers, body)
    if edge.HasField("telemetry"):
        made.counted = _counted(edge.telemetry, message)
    return made


def _content(route: Route, message: Message) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    edge = route.edge
    if edge.HasField("redirect"):
        status = transcoder.value_at(message, edge.redirect.status_field) if edge.redirect.status_field else 0
        location = header_value(transcoder.value_at(message, edge.redirect.location_field))
        if _previewed(route, message):
            return 200, list(preview.HEADERS), preview.page(location.decode())
        return (status if status in REDIRECT_STATUSES else REDIRECT_STATUS), [(b"location", location)], b""
    if message.DESCRIPTOR.full_name == _EMPTY:
        return 204, [], b""
    body, media_type = transcoder.answer_of(route, message)
    headers = [(b"content-type", header_value(media_type)), NOSNIFF]
    if not edge.created:
        return 200, headers, body
    name = getattr(message, "name", "")
    if isinstance(name, str) and name:
        headers.append((b"location", header_value(f"/{route.template.segments[0]}/{name}")))
    return 201, headers, body


def _previewed(route: Route, message: Message) -> bool:
    """Whether the answer is a page in a redirect's place. It is counted, and over once its owner says so: no cache outside keeps it."""
    field = route.edge.redirect.preview_field
    return bool(field) and bool(transcoder.value_at(message, field))


def _kept(
    made: Answer, cache: edge_pb2.Cache, message: Message, asked_s: float, *, shared: bool
) -> list[tuple[bytes, bytes]]:
    """Sets until when `made` may be kept; returns the headers that say to caches outside whether they may, which is if it is `shared`."""
    lifetime_s = float("inf")
    if cache.ttl_field and message.HasField(cache.ttl_field):
        duration = getattr(message, cache.ttl_field)
        assert isinstance(duration, duration_pb2.Duration)  # checked by the option's documentation
        lifetime_s = duration.ToMilliseconds() / 1000
    if lifetime_s <= 0:
        return [PRIVATE_NO_STORE]
    # Counted from before the question, so that the way there and back never lengthens a life.
    made.fresh_until_s = asked_s + min(cache.ttl_ms / 1000, lifetime_s)
    made.stale_until_s = asked_s + min((cache.ttl_ms + cache.stale_ms) / 1000, lifetime_s)
    made.tags = tuple(tag(template, message) for template in cache.tags)
    open_ = shared and cache.shared_max_age_field
    shared_s = int(transcoder.value_at(message, cache.shared_max_age_field)) if open_ else 0
    shared_s = int(min(shared_s, lifetime_s))
    if shared_s <= 0:
        return [PRIVATE_NO_STORE]
    stale_s = (
        int(min(cache.stale_ms / 1000, lifetime_s - shared_s)) if lifetime_s != float("inf") else cache.stale_ms // 1000
    )
    stale = b"stale-while-revalidate=%d, stale-if-error=%d" % (stale_s, stale_s)
    return [
        (b"cache-control", b"public, max-age=0, s-maxage=%d, " % shared_s + stale),
        (b"cdn-cache-control", b"max-age=%d, " % shared_s + stale),
        (b"cache-tag", ",".join(quote(each, safe="/:@._-") for each in made.tags).encode()),
    ]


def _etag(status: int, location: bytes, body: bytes) -> bytes:
    """A strong name of the answer, the same in every process: of its body, or of where a redirect leads and how."""
    named = body or b"%d %s" % (status, location)
    return b'"' + xxhash.xxh3_128_hexdigest(named).encode() + b'"'


def _counted(telemetry: edge_pb2.Telemetry, message: Message) -> Counted:
    tenant = int(transcoder.value_at(message, telemetry.tenant_field)) if telemetry.tenant_field else 0
    return Counted(
        telemetry.kind, tenant, int(transcoder.value_at(message, telemetry.item_field)), telemetry.wait_for_ack
    )


def tag(template: str, message: Message) -> str:
    """A purge tag with the message's fields in its braces."""
    text, *parts = template.split("{")
    for part in parts:
        path, _, literal = part.partition("}")
        text += f"{transcoder.value_at(message, path)}{literal}"
    return text


def header_value(text: str) -> bytes:
    """The text as the value of a header: what is not printable ASCII, line ends above all, is percent-encoded."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return quote(text, safe=_LOCATION_SAFE).encode()
