"""Resource names: `links/123` ↔ 123 (AIP-122)."""

import re

from groundswell.kernel import errors

ID_MAX = (1 << 63) - 1
_ID = re.compile("0|[1-9][0-9]{0,18}", re.ASCII)


def id_of(name: str, collection: str, absent: type[errors.NotFound]) -> int:
    """The id in `name`; raises `absent` when it is no name of this collection, as for one that does not exist."""
    prefix, _, text = name.partition("/")
    if prefix != collection or not _ID.fullmatch(text) or int(text) > ID_MAX:
        raise absent()  # type: ignore[call-arg]  # subclasses of the domain know their own message
    return int(text)
