"""A request as it came in, held to its limits before anything looks at it."""

import asyncio
import ipaddress
import itertools
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundswell.gateway import errors
from groundswell.gateway.model import visitors
from groundswell.kernel.context import POSITION
from groundswell.kernel.errors import Invalid

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TARGET_BYTES_MAX = 8 * 1024
HEADER_BYTES_MAX = 32 * 1024
HOST_BYTES_MAX = 253 + len(":65535") + len(".")
"""Of the longest name with a final dot and a port."""
BODY_BYTES_MAX = 1 << 20
CONSISTENCY = b"groundswell-consistency"
"""How far the database was at an answer; sent back, later answers are no older. Opaque to clients."""
GROWTH_MAX = 10
GROWTH_FREE_BYTES = 64 * 1024
"""A body up to this size may be as repetitive as it likes."""
_MAPPED = "::ffff:"
"""How a listener for both versions names a peer that came over IPv4."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:-]{1,128}")
_SINGLE = frozenset(
    {
        b"host",
        b"authorization",
        b"content-type",
        b"content-encoding",
        b"content-length",
        b"idempotency-key",
        b"x-api-key",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are lower case, `host` is normalised. `peer` is the other end of its connection, `address` the
    caller's, which a proxy may have told."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]
    host: str
    address: str
    peer: tuple[str, str]
    id: bytes
    receive: Receive

    def header(self, name: bytes) -> str | None:
        """A header's text, None when it was not sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class RequestIds:
    """Names for requests whose callers gave none: unique, short, and cheap to make."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The caller's `X-Request-Id` when it is one that may be echoed, else a new id."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._prefix, next(self._numbers))


class Peers:
    """Addresses and hosts as the platform sees them."""

    def __init__(self, trusted_proxies: Sequence[str], aliases: Sequence[str], hosts: Sequence[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(each) for each in trusted_proxies)
        self._aliases = dict(each.split("=", 1) for each in aliases)
        self._exact = frozenset(host for host in hosts if not host.startswith("*"))
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._any = "*" in hosts
        self._is_trusted: dict[str, bool] = {}

    def address(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """The visitor's address: the peer's, or what a trusted proxy says."""
        peer = peer.removeprefix(_MAPPED) if "." in peer else peer
        forwarded = headers.get(b"x-forwarded-for") if self._trusted else None
        if forwarded is None or not self._trusts(peer):
            return peer
        return visitors.forwarded_address(forwarded.decode("latin-1"), self._trusted) or peer

    def _trusts(self, peer: str) -> bool:
        known = self._is_trusted.get(peer)
        if known is None:
            try:
                address = ipaddress.ip_address(peer)
                known = any(address in network for network in self._trusted if network.version == address.version)
            except ValueError:
                known = False
            if len(self._is_trusted) > 10_000:
                self._is_trusted.clear()
            self._is_trusted[peer] = known
        return known

    def host(self, header: bytes) -> str:
        """The host of a Host header: lower case, without port or final dot, aliases resolved."""
        text = header.decode("latin-1").lower()
        name, colon, port = text.rpartition(":")
        bare = (name if colon and port.isdigit() else text).rstrip(".")
        return self._aliases.get(bare, bare)

    def serves(self, host: str) -> bool:
        """Whether the API is served under `host`."""
        if self._any or host in self._exact:
            return True
        label, dot, rest = host.partition(".")
        return bool(label and dot) and f".{rest}" in self._suffixes


def check_limits(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Raises when the request is too large or ambiguous before its body: `TargetTooLong`, `HeadersTooLarge`, `MalformedRequest`."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > TARGET_BYTES_MAX:
        raise errors.TargetTooLong(TARGET_BYTES_MAX)
    pairs = scope["headers"]
    if sum(len(name) + len(value) + 4 for name, value in pairs) > HEADER_BYTES_MAX:
        raise errors.HeadersTooLarge(HEADER_BYTES_MAX)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next((name for name in _SINGLE if names.count(name) > 1), None)
        if twice:
            raise errors.MalformedRequest(f"The header {twice.decode()} may come once.")
    host = headers.get(b"host")
    if not host:
        raise errors.MalformedRequest("The header Host is missing.")
    if len(host) > HOST_BYTES_MAX:
        raise errors.MalformedRequest(f"The header Host is longer than {HOST_BYTES_MAX} bytes.")


def consistency(request: Request) -> str:
    """The position that the client has seen, empty when it tells none; raises `Invalid` when we cannot have given it out."""
    position = request.header(CONSISTENCY) or ""
    if position and not POSITION.fullmatch(position):
        raise Invalid("Groundswell-Consistency must be what an answer had in that header.")
    return position


async def read_body(request: Request, bytes_max: int, stall_s_max: float) -> bytes:
    """The decoded body, of which something must come every `stall_s_max`.

    Raises `BodyTooLarge`, `BodyTimeout`, `UnsupportedEncoding`, or `Invalid` when the client left.
    """
    encoding = (request.header(b"content-encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise errors.UnsupportedEncoding
    declared = request.header(b"content-length") or "0"
    if not declared.isdigit() or int(declared) > bytes_max:
        raise errors.BodyTooLarge(bytes_max)
    raw = await _received(request.receive, bytes_max, stall_s_max)
    return raw if encoding == "identity" or not raw else _unzipped(raw, bytes_max)


async def _received(receive: Receive, bytes_max: int, stall_s_max: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(stall_s_max):
                message = await receive()
        except TimeoutError as error:
            raise errors.BodyTimeout from error
        if message["type"] == "http.disconnect":
            raise Invalid("The client left before its body ended.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise errors.BodyTooLarge(bytes_max)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def _unzipped(raw: bytes, bytes_max: int) -> bytes:
    limit = min(bytes_max, max(GROWTH_MAX * len(raw), GROWTH_FREE_BYTES))
    unzip = zlib.decompressobj(wbits=31)
    try:
        body = unzip.decompress(raw, limit + 1)
    except zlib.error as error:
        raise errors.MalformedRequest("The body is not gzip, as its Content-Encoding says.") from error
    if len(body) > limit:
        raise errors.BodyTooLarge(bytes_max)
    if not unzip.eof or unzip.unused_data:
        raise errors.MalformedRequest("The body is not one whole gzip stream.")
    return body
