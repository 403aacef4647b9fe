"""Ends connections that hold one of the door's places and do nothing.

granian closes a connection whose headers take too long only once it has told HTTP/1 from HTTP/2 by its first bytes, and lets idle ones
of HTTP/2 live on. What the kernel knows of each connection decides here: nothing that could be a request for `head_s`, or nothing in either
direction for `idle_s`. Linux only; elsewhere nobody is ended.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

PREFACE_BYTES = 24
"""What HTTP/2 begins with. Fewer bytes are no request with a host."""
_INFO = struct.Struct("=44xI4xI72xQ")
"""From tcp_info of linux/tcp.h: milliseconds since data was last sent and received, and bytes received."""
_SOCKETS = "/proc/self/fd"


def end_silent(port: int, *, head_s: float, idle_s: float) -> int:
    """Shuts down the silent connections of this process's server on `port`; returns how many. Blocks for about 10 µs a connection."""
    if sys.platform != "linux":
        return 0
    ended = 0
    for connection in _connections(port):
        with connection, suppress(OSError):  # it may have ended by itself meanwhile
            if _is_silent(connection, head_s, idle_s):
                connection.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


def _connections(port: int) -> Iterator[socket.socket]:
    """Accepted connections, as descriptors of our own: the server keeps its ones."""
    for name in os.listdir(_SOCKETS):
        with suppress(OSError):
            if not os.readlink(f"{_SOCKETS}/{name}").startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
            if _is_accepted(found, port):
                yield found
            else:
                found.close()


def _is_accepted(found: socket.socket, port: int) -> bool:
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getsockname()[1] != port:
            return False
        found.getpeername()
    except OSError:  # listening
        return False
    return True


def _is_silent(connection: socket.socket, head_s: float, idle_s: float) -> bool:
    sent_ms, received_ms, received_bytes = _INFO.unpack(
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    )
    if received_bytes < PREFACE_BYTES and received_ms > head_s * 1000:
        return True
    return bool(min(sent_ms, received_ms) > idle_s * 1000)
