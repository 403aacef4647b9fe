"""Ends connections that hold the door's places for nothing, and those of an address that has too many.

granian closes a connection whose headers take too long only once it has told HTTP/1 from HTTP/2 by its first bytes, lets idle ones of
HTTP/2 live on, and takes as many as come. What the kernel knows of each connection decides here: nothing that could be a request for
`head_s`, nothing in either direction for `idle_s`, or an address that has `per_address_max` already. Of an address's connections those
stay that were there before. Linux only; elsewhere nobody is ended.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

PREFACE_BYTES = 24
"""What HTTP/2 begins with. Fewer bytes are no request with a host."""
PREFIX_V6 = 64
"""Whoever has one address of IPv6 has so many of its bits at will: a network of that length counts as one address."""
_INFO = struct.Struct("=44xI4xI72xQ")
"""From tcp_info of linux/tcp.h: milliseconds since data was last sent and received, and bytes received."""
_SOCKETS = "/proc/self/fd"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Peer = tuple[str, str]
"""Address and port of the other end, as granian tells them: they tell two connections apart."""


class Swept(NamedTuple):
    """Connections that a sweep ended, by the reason, and those that stay."""

    silent: int
    crowding: int
    open: frozenset[Peer]


class Stay:
    """Whose connections stay open after an answer: everybody's, until half of the places are taken.

    Between two looks at the connections one that was not met before counts as one more, so that a burst takes no more than that either.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._kept_max = places // 2
        self.look(frozenset())

    def look(self, open_: frozenset[Peer]) -> None:
        """These are the connections that are open now."""
        self._met = set(open_)
        self.left = self._kept_max - len(open_)

    def lose_sight(self) -> None:
        """Which connections are open cannot be told: nobody's stays until they are looked at again."""
        self.left = -1

    def of(self, peer: Peer) -> bool:
        """Whether the connection of this peer stays."""
        if peer not in self._met:
            self._met.add(peer)
            self.left -= 1
        return self.left >= 0


class Places:
    """The connections of this process's server on `port`.

    Addresses in the networks `uncounted` may have any number: many visitors stand behind a proxy, and what runs on this machine takes no
    door to overload it.
    """

    def __init__(
        self, port: int, *, head_s: float, idle_s: float, per_address_max: int, uncounted: Sequence[str]
    ) -> None:
        self._port, self._head_s, self._idle_s = port, head_s, idle_s
        self._per_address_max = per_address_max
        self._uncounted = tuple(ipaddress.ip_network(each) for each in uncounted)
        self._seen: frozenset[Peer] = frozenset()

    def sweep(self) -> Swept:
        """Shuts down those that may not stay. Blocks for about 10 µs a connection; one thread at a time."""
        if sys.platform != "linux":
            return Swept(0, 0, frozenset())
        silent, peers = 0, []
        for connection, peer in _connections(self._port):
            if self._is_silent(connection):
                silent += _shut_down(connection)
            else:
                peers.append(peer)
        excess = self._excess(peers)
        self._seen = frozenset(peers) - excess
        # A walk of its own, since holding on to every connection until all are known would take twice the descriptors.
        again = _connections(self._port) if excess else ()
        crowding = sum(_shut_down(connection) for connection, peer in again if peer in excess)
        return Swept(silent, crowding, self._seen)

    def _excess(self, peers: Sequence[Peer]) -> set[Peer]:
        """The peers that are too many for their address; who was there at the last sweep is not."""
        by_address: defaultdict[str, list[Peer]] = defaultdict(list)
        for peer in peers:
            by_address[peer[0]].append(peer)
        crowds: defaultdict[str, list[Peer]] = defaultdict(list)
        for address, found in by_address.items():
            if (name := counted_as(address, self._uncounted)) is not None:
                crowds[name] += found
        excess: set[Peer] = set()
        for crowd in crowds.values():
            if len(crowd) > self._per_address_max:
                excess.update(sorted(crowd, key=lambda peer: peer not in self._seen)[self._per_address_max :])
        return excess

    def _is_silent(self, connection: socket.socket) -> bool:
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        except OSError:  # it has ended by itself meanwhile
            return False
        sent_ms, received_ms, received_bytes = _INFO.unpack(info)
        if received_bytes < PREFACE_BYTES and received_ms > self._head_s * 1000:
            return True
        return bool(min(sent_ms, received_ms) > self._idle_s * 1000)


def counted_as(text: str, uncounted: Sequence[Network]) -> str | None:
    """What the connections of an address are counted under; None when they are not counted."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in uncounted):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, PREFIX_V6), strict=False))
    return str(address)


def _connections(port: int) -> Iterator[tuple[socket.socket, Peer]]:
    """Accepted connections, as descriptors of our own that are good for one step of the loop, with whom they lead to."""
    for name in os.listdir(_SOCKETS):
        with suppress(OSError):
            if not os.readlink(f"{_SOCKETS}/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if (peer := _peer(found, port)) is not None:
                    yield found, peer


def _peer(found: socket.socket, port: int) -> Peer | None:
    """Whom a connection of the server leads to; None for any other socket."""
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getsockname()[1] != port:
            return None
        address, peer_port, *_ = found.getpeername()
    except OSError:  # listening
        return None
    return address, str(peer_port)


def _shut_down(connection: socket.socket) -> bool:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself meanwhile
        return False
    return True
