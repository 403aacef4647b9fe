"""Resource names: `links/123` ↔ 123 (AIP-122)."""

from groundswell.kernel import errors

ID_MAX = (1 << 63) - 1


def id_of(name: str, collection: str, absent: type[errors.NotFound]) -> int:
    """The id in `name`; raises `absent` when it is no name of this collection, as for one that does not exist."""
    prefix, _, text = name.partition("/")
    if prefix != collection or not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > ID_MAX:
        raise absent()  # type: ignore[call-arg]  # subclasses of the domain know their own message
    return int(text)
