"""Schemes beside http and https that a domain's links may lead to."""

from collections.abc import Iterable

from groundswell.kernel import schemes
from groundswell.links import errors

SCHEMES_MAX = 20
"""Of a domain."""


def checked_schemes(texts: Iterable[str]) -> tuple[str, ...]:
    """The schemes as they are kept: lower case, each once, in order, without those of the web, which need no leave.

    Raises `SchemeInvalid`, `SchemeNeverAllowed` or `TooManySchemes`.
    """
    kept = {_checked(index, text) for index, text in enumerate(texts)} - schemes.WEB
    if len(kept) > SCHEMES_MAX:
        raise errors.TooManySchemes(SCHEMES_MAX)
    return tuple(sorted(kept))


def _checked(index: int, text: str) -> str:
    if not schemes.is_scheme(text):
        raise errors.SchemeInvalid(index, schemes.LENGTH_MAX)
    scheme = text.lower()
    if reason := schemes.why_never(scheme):
        raise errors.SchemeNeverAllowed(index, scheme, reason)
    return scheme
