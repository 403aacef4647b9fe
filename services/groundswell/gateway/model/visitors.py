"""Who reads, as far as telemetry may know: a keyed hash that changes every day, a network, a kind of device, machine or not.

No address is stored. The salt comes from the platform's key and the date, so that all processes agree on it, nobody outside can
test an address against a hash, and yesterday's hashes say nothing about today's.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import xxhash

DAY_MS = 86_400_000
UNKNOWN, DESKTOP, MOBILE, TABLET, TV, MACHINE = range(6)
BOT = 1
"""Bit of a row's flags: read by a machine."""
AGENT_BYTES_MAX = 512
"""Of a User-Agent that are looked at: real ones are shorter, and the patterns take the square of a text's length at worst."""

_TV = re.compile(r"smart-?tv|googletv|appletv|hbbtv|tizen.*tv|web0s|roku|aft[a-z]\b|bravia", re.IGNORECASE)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(r"mobi|iphone|ipod|android|windows phone|opera mini", re.IGNORECASE)
_DESKTOP = re.compile(r"windows nt|macintosh|x11|linux|cros ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Visitor:
    """One reader on one day."""

    user: int
    network: int
    device: int
    flags: int


class Visitors:
    """Turns addresses and user agents into visitors; remembers the last of both, for both repeat."""

    def __init__(self, key: bytes, crawlers: Iterable[str]) -> None:
        self._key = key
        self._day = -1
        self._salt = b""
        self._crawler = re.compile("|".join(f"(?:{pattern})" for pattern in crawlers), re.IGNORECASE)
        self._classified = lru_cache(maxsize=8_192)(self._classify)
        self._networks = lru_cache(maxsize=65_536)(self._network)

    def visitor(self, address: str, agent: bytes, now_ms: int) -> Visitor:
        """The visitor who reads now from `address` with the User-Agent `agent`, of which only the beginning counts."""
        agent = agent[:AGENT_BYTES_MAX]
        if now_ms // DAY_MS != self._day:
            self._turn(now_ms // DAY_MS)
        device, flags = self._classified(agent)
        user = xxhash.xxh3_64_intdigest(self._salt + address.encode() + b"\0" + agent)
        return Visitor(user, self._networks(address), device, flags)

    def _turn(self, day: int) -> None:
        self._day = day
        self._salt = hmac.digest(self._key, f"visitors:{day}".encode(), hashlib.sha256)
        self._networks.cache_clear()

    def _classify(self, agent: bytes) -> tuple[int, int]:
        text = agent.decode("latin-1")
        if not text or self._crawler.search(text):
            return MACHINE, BOT
        for pattern, device in ((_TV, TV), (_TABLET, TABLET), (_MOBILE, MOBILE), (_DESKTOP, DESKTOP)):
            if pattern.search(text):
                return device, 0
        return UNKNOWN, 0

    def _network(self, address: str) -> int:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return 0
        network = ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False)
        return xxhash.xxh3_64_intdigest(self._salt + network.network_address.packed) & 0xFFFFFFFF


def crawler_patterns(text: str) -> list[str]:
    """The patterns in the text of a crawler list: one a line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def forwarded_address(forwarded: str, trusted: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> str | None:
    """The client in an X-Forwarded-For chain: the last address that is no trusted proxy; None when the chain holds no address.

    Proxies append, so only the right end is theirs; everything left of the first untrusted address may be made up by the client.
    """
    networks = tuple(trusted)
    found: str | None = None
    for part in reversed(forwarded.split(",")):
        try:
            address = ipaddress.ip_address(part.strip())
        except ValueError:
            return found
        found = str(address)
        if not any(address in network for network in networks if network.version == address.version):
            return found
    return found
