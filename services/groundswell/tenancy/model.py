"""Tenants and the rules of their names."""

import re
from dataclasses import dataclass

from groundswell.tenancy import errors

PLATFORM = 1
"""The tenant of the platform's own staff."""
FIRST = 2
"""The tenant that an installation starts with."""
DISPLAY_NAME_LENGTH_MAX = 200
RESERVED_SLUGS = frozenset({"admin", "api", "assets", "console", "localhost", "mail", "status", "support", "www"})

_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{1,38})[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer. `revision` rises by one with every change."""

    id: int
    slug: str
    display_name: str
    suspended: bool
    created_ms: int
    revision: int


def checked_slug(slug: str) -> str:
    """`slug` when it can be a tenant's; raises `SlugInvalid` or `SlugReserved`."""
    if not _SLUG.fullmatch(slug):
        raise errors.SlugInvalid
    if slug in RESERVED_SLUGS:
        raise errors.SlugReserved(slug)
    return slug


def checked_display_name(name: str) -> str:
    """`name` when it is short enough; raises `DisplayNameTooLong`."""
    if len(name) > DISPLAY_NAME_LENGTH_MAX:
        raise errors.DisplayNameTooLong(DISPLAY_NAME_LENGTH_MAX)
    return name
