"""How many connections this process may have: as many as asked for, unless its descriptors do not suffice.

The soft limit of descriptors is raised towards the hard one first: many shells and machines give 1,024 where half a million are allowed.
"""

import logging
import resource

log = logging.getLogger(__name__)

KEPT = 512
"""Descriptors for what else a process has open: its journal, channels to services, Kafka and databases, and the look at the connections."""


def room(asked: int) -> int:
    """Places for connections, `asked` at most; says so in the log when it is fewer."""
    soft = _raised(asked + KEPT)
    if soft == resource.RLIM_INFINITY:
        return asked
    places = min(asked, max(soft - KEPT, soft // 2))
    if places < asked:
        log.warning(
            "there is room for %d connections instead of %d: raise the limit of open files (ulimit -n), which is %d",
            places,
            asked,
            soft,
        )
    return places


def _raised(wanted: int) -> int:
    """The soft limit, raised as far as is wanted and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError) as error:  # a system may allow less than it says
        log.warning("the limit of open files could not be raised to %d: %s", allowed, error)
        return soft
    return allowed
