"""The context in call metadata: `gs-context-bin`, signed with the platform's internal key.

Only processes of the platform hold the key, so a server may trust a signed context without asking anybody; a client outside can
neither make nor change one. The same context is signed and checked once and then remembered.
"""

import hashlib
import hmac
from functools import lru_cache

import orjson

from groundswell.kernel import errors
from groundswell.kernel.context import Context, Criticality

CONTEXT = "gs-context-bin"
POSITION = "gs-position"
"""Metadata behind an answer: how far the database was (`Context.reached`)."""
_SIGNATURE_BYTES = 16


def encode(context: Context, key: bytes) -> bytes:
    """The signed bytes of `context`; the deadline travels as gRPC's own."""
    return _encode(
        context.tenant,
        context.actor,
        context.permissions,
        int(context.criticality),
        context.consistency,
        key,
    )


@lru_cache(maxsize=10_000)
def _encode(
    tenant: int,
    actor: str,
    permissions: frozenset[str],
    criticality: int,
    consistency: str,
    key: bytes,
) -> bytes:
    body = orjson.dumps([tenant, actor, sorted(permissions), criticality, consistency])
    return hmac.digest(key, body, hashlib.sha256)[:_SIGNATURE_BYTES] + body


@lru_cache(maxsize=10_000)
def decode(signed: bytes, key: bytes) -> Context:
    """The context in `signed`; raises `Unauthenticated` when the signature is not this platform's."""
    signature, body = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, hmac.digest(key, body, hashlib.sha256)[:_SIGNATURE_BYTES]):
        raise errors.Unauthenticated("The call's context is not signed by this platform.")
    tenant, actor, permissions, criticality, consistency = orjson.loads(body)
    return Context(
        tenant=tenant,
        actor=actor,
        permissions=frozenset(permissions),
        criticality=Criticality(criticality),
        consistency=consistency,
    )
