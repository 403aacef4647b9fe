"""Addresses of the cluster, 10.N.x.y, and where processes of this machine find them, 127.N.x.y."""

from __future__ import annotations

import secrets

POD_NETS = range(100, 250)
"""Second bytes of pods' addresses; Services' are of 10.96.0.0/16."""
PODS_MAX = 250 * 250


def local(address: str) -> str:
    """The loopback address that stands for one of the cluster."""
    first, _, rest = address.partition(".")
    if first != "10":
        raise ValueError(f"{address} is no address of the tests' cluster, which are 10.0.0.0/8")
    return f"127.{rest}"


class PodAddresses:
    """Draws an address for each pod, none twice."""

    def __init__(self) -> None:
        self._net = secrets.choice(POD_NETS)
        self._drawn = 0

    def draw(self) -> str:
        """The next one; raises `RuntimeError` when there are no more."""
        if self._drawn == PODS_MAX:
            raise RuntimeError(f"{PODS_MAX} pods have run; start another agent")
        high, low = divmod(self._drawn, 250)
        self._drawn += 1
        return f"10.{self._net}.{high}.{low + 2}"
