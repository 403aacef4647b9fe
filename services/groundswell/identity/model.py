"""API keys, what was done to them, and the rules of their scopes."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from groundswell.identity import errors
from groundswell.kernel.context import Context

PLATFORM_TENANT = 1
SCOPES_MAX = 50
SCOPE_LENGTH_MAX = 100
DISPLAY_NAME_LENGTH_MAX = 200

_SECRET = re.compile(r"gsk_([1-9][0-9]{0,18})_([A-Za-z0-9-]{20,100})")
_SCOPE = re.compile(r"\*|[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)*(\.\*)?")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its tenant sees it; the secret is not in it. `expires_ms` None means never."""

    id: int
    tenant: int
    display_name: str
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int | None
    maker: str
    """As `actor_of` names it; empty when it is not known, as of keys from before makers were recorded."""


class Kind(StrEnum):
    """What can be done to a key, once each."""

    CREATED = "created"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyAct:
    """That `actor` made or revoked a key of `tenant`."""

    id: int
    tenant: int
    key: int
    kind: Kind
    actor: str
    acted_ms: int


def actor_of(context: Context) -> str:
    """The caller by a name that holds in every tenant: `tenants/{id}/apiKeys/{id}`; the platform's own processes are in none."""
    return context.actor if context.actor.startswith("services/") else f"tenants/{context.tenant}/{context.actor}"


def is_staff(actor: str, tenant: int) -> bool:
    """Whether `actor` acted in `tenant` from another one, as only staff of the platform can."""
    return actor.startswith("tenants/") and not actor.startswith(f"tenants/{tenant}/")


def new_secret(key: int) -> str:
    """A new secret of 256 random bits: `gsk_<id>_<secret>`."""
    return f"gsk_{key}_{secrets.token_hex(32)}"


def parts_of(secret: str) -> tuple[int, bytes] | None:
    """The key's id and the hash of the secret; None when it is not shaped like one."""
    matched = _SECRET.fullmatch(secret)
    if matched is None or int(matched[1]) >= 1 << 63:
        return None
    return int(matched[1]), hashlib.sha256(matched[2].encode()).digest()


def checked_scopes(scopes: Sequence[str], holder: Context, tenant: int) -> tuple[str, ...]:
    """`scopes` when `holder` may give them to a key of `tenant`; raises `ScopesInvalid` or `ScopeNotHeld`."""
    if not 1 <= len(scopes) <= SCOPES_MAX or not all(map(_is_scope, scopes)):
        raise errors.ScopesInvalid(SCOPES_MAX)
    for scope in scopes:
        foreign = scope.startswith("platform.") and tenant != PLATFORM_TENANT
        if foreign or not holder.allows(scope):
            raise errors.ScopeNotHeld(scope)
    return tuple(dict.fromkeys(scopes))


def _is_scope(text: str) -> bool:
    return len(text) <= SCOPE_LENGTH_MAX and bool(_SCOPE.fullmatch(text))


def checked_expiry(expires_ms: int | None, now_ms: int) -> int | None:
    """`expires_ms` when it lies ahead; raises `ExpiryPast`."""
    if expires_ms is not None and expires_ms <= now_ms:
        raise errors.ExpiryPast
    return expires_ms


def checked_display_name(name: str) -> str:
    """`name` when it is short enough; raises `DisplayNameTooLong`."""
    if len(name) > DISPLAY_NAME_LENGTH_MAX:
        raise errors.DisplayNameTooLong(DISPLAY_NAME_LENGTH_MAX)
    return name
