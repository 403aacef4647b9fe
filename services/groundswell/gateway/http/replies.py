"""Answers on their way out: compression, conditional requests, cross-origin headers."""

import gzip
from collections.abc import Iterable, Mapping, Sequence

from groundswell.gateway.http.requests import Request, Send

GZIP_BYTES_MIN = 1_024
GZIP_LEVEL = 4
SERVER = (b"server", b"groundswell")
VARY_ENCODING = (b"vary", b"accept-encoding")
_GZIPPED = (b"content-encoding", b"gzip")
_COMPRESSED_TYPES = (
    b"application/json",
    b"application/problem+json",
    b"text/",
    b"image/svg+xml",
    b"application/javascript",
)
_BODILESS = frozenset({204, 304})
_CORS_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_CORS_EXPOSED = b"ETag, Location, Retry-After, X-Request-Id, Groundswell-Consistency, Groundswell-View"
_CORS_REQUEST_HEADERS = (
    b"Authorization, Content-Type, Groundswell-Consistency, Idempotency-Key, If-None-Match, Last-Event-ID, "
    b"X-Api-Key, X-Request-Id"
)

Header = tuple[bytes, bytes]


async def send_whole(
    send: Send, request: Request, status: int, headers: Iterable[Header], body: bytes, zipped: bytes = b""
) -> None:
    """Sends an answer, compressed when it is worth it and the client can; `zipped` is the body so, where that is known."""
    out = [*headers, SERVER, (b"x-request-id", request.id)]
    if status in _BODILESS:
        body = b""
    elif zipped or _worth_zipping(out, body):
        out.append(VARY_ENCODING)
        if accepts_gzip(request.headers):
            out, body = as_gzip(out), zipped or _zip(body)
    await send({"type": "http.response.start", "status": status, "headers": out})
    await send({"type": "http.response.body", "body": body})


def gzipped(headers: Sequence[Header], body: bytes) -> bytes:
    """The body of an answer with these headers as gzip; empty where that is not worth it."""
    return _zip(body) if _worth_zipping(headers, body) else b""


def as_gzip(headers: Iterable[Header]) -> list[Header]:
    """The headers of an answer whose body leaves as gzip."""
    return [*((name, value[:-1] + b'-gz"' if name == b"etag" else value) for name, value in headers), _GZIPPED]


def _zip(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


def _worth_zipping(headers: Sequence[Header], body: bytes) -> bool:
    return len(body) > GZIP_BYTES_MIN and _compressible(headers)


def _compressible(headers: Sequence[Header]) -> bool:
    names = dict(headers)
    return b"content-encoding" not in names and names.get(b"content-type", b"").startswith(_COMPRESSED_TYPES)


def accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client that sent these takes gzip."""
    for part in headers.get(b"accept-encoding", b"").decode("latin-1").lower().split(","):
        name, _, parameters = part.strip().partition(";")
        if name.strip() in ("gzip", "*") and parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return True
    return False


def matches(request: Request, etag: bytes) -> bool:
    """Whether the client has the answer named `etag` already (`If-None-Match`, weak comparison)."""
    wanted = request.header(b"if-none-match")
    if wanted is None or not etag:
        return False
    name = etag.decode().strip('"')
    given = {part.strip().removeprefix("W/").strip('"').removesuffix("-gz") for part in wanted.split(",")}
    return name in given or wanted.strip() == "*"


class Origins:
    """Which pages of other origins may call the API."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._any = "*" in allowed
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def headers(self, request: Request) -> list[Header]:
        """What an answer to a page of another origin must carry. Where some may ask and others may not, every answer says that it depends
        on who asks: a cache would give what it kept from a request without an origin to a page that may read it, and cannot so."""
        origin = request.headers.get(b"origin")
        vary = [(b"vary", b"origin")] if self._allowed and not self._any else []
        if origin is None or not self._may(origin):
            return vary
        return [
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-expose-headers", _CORS_EXPOSED),
            *vary,
        ]

    def preflight(self, request: Request) -> list[Header]:
        """The same for a preflight; nothing for what is none, or is not allowed."""
        origin = request.headers.get(b"origin")
        if origin is None or not self._may(origin) or b"access-control-request-method" not in request.headers:
            return []
        return [
            *self.headers(request),
            (b"access-control-allow-methods", _CORS_METHODS),
            (b"access-control-allow-headers", _CORS_REQUEST_HEADERS),
            (b"access-control-max-age", b"600"),
        ]

    def _may(self, origin: bytes) -> bool:
        return self._any or origin in self._allowed
