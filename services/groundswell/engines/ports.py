"""Free ports on loopback, below the range from which the system draws ports for outgoing connections.

A port that a home has once drawn is kept, and stays free while its owner restarts: an outgoing connection cannot take it by chance.
"""

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
TRIES_MAX = 1_000


def free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def draw(count: int) -> list[int]:
    """`count` different free ports."""
    drawn: set[int] = set()
    for _ in range(TRIES_MAX):
        if len(drawn) == count:
            return list(drawn)
        port = random.randint(LOWEST, HIGHEST)
        if free(port):
            drawn.add(port)
    raise OSError(f"found no {count} free ports between {LOWEST} and {HIGHEST} on this machine")
