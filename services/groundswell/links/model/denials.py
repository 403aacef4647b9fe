"""Hosts that a tenant's links may not lead to.

An entry is a host, which denies that host alone, or `*.` before a name, which denies every host below it. All entries that could deny
a host follow from the host itself, so they are looked up by their keys, and a list of any length costs the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from groundswell.links import errors
from groundswell.links.model import destinations

PARENT_LABELS_MAX = 10
"""Labels behind `*.`: they bound what is looked up for a host, which may have 127 of them."""
_BELOW = "*."


@dataclass(frozen=True, slots=True)
class DeniedHost:
    """An entry of a tenant's list; `host` is as destinations are compared, behind `*.` or not."""

    id: int
    tenant: int
    host: str
    created_ms: int


def checked_entry(host: str) -> str:
    """The entry that `host` means, as it is kept; raises `DeniedHostInvalid`."""
    try:
        compared = destinations.compared(host.removeprefix(_BELOW))
    except errors.DestinationRefused as error:
        raise errors.DeniedHostInvalid(PARENT_LABELS_MAX) from error
    if not host.startswith(_BELOW):
        return compared
    if destinations.is_address(compared) or len(compared.split(".")) > PARENT_LABELS_MAX:
        raise errors.DeniedHostInvalid(PARENT_LABELS_MAX)
    return _BELOW + compared


def entries_denying(host: str) -> Sequence[str]:
    """The entries that would deny `host`, which is as destinations are compared; the closest first."""
    if destinations.is_address(host):
        return [host]
    labels = host.split(".")
    nearest = max(1, len(labels) - PARENT_LABELS_MAX)
    return [host, *(_BELOW + ".".join(labels[at:]) for at in range(nearest, len(labels)))]
