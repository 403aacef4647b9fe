"""Free ports on loopback, below the range from which the system draws ports for outgoing connections.

A port that a home has once drawn is kept, and stays free while its owner restarts: an outgoing connection cannot take it by chance.
Neither can another home whose range is another one (`GROUNDSWELL_PORTS`).
"""

import os
import random
import re
import socket
from collections.abc import Collection, Mapping

from groundswell.engines.errors import SupervisorError

VARIABLE = "GROUNDSWELL_PORTS"
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


def draw(count: int, environment: Mapping[str, str] = os.environ, taken: Collection[int] = ()) -> list[int]:
    """`count` different free ports, none of `taken`, which are somebody's though nobody listens now; raises `SupervisorError` when there
    are not so many, or the range in the environment is none."""
    lowest, highest = span(environment)
    drawn: set[int] = set()
    for _ in range(TRIES_MAX):
        if len(drawn) == count:
            return list(drawn)
        port = random.randint(lowest, highest)
        if port not in taken and free(port):
            drawn.add(port)
    raise SupervisorError(
        f"There are no {count} free ports between {lowest} and {highest}. Name another range: {VARIABLE}=FIRST-LAST."
    )


def span(environment: Mapping[str, str]) -> tuple[int, int]:
    """The lowest and the highest port that may be drawn; raises `SupervisorError`."""
    text = environment.get(VARIABLE) or f"{LOWEST}-{HIGHEST}"
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    lowest, highest = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1_024 <= lowest <= highest < 1 << 16:
        raise SupervisorError(f"{VARIABLE} must be FIRST-LAST, such as {LOWEST}-{HIGHEST}; it is {text!r}.")
    return lowest, highest
