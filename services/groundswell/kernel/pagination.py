"""Opaque page tokens: a keyset position, signed so that a forged or foreign token is refused.

A token is bound to `scope` (method, tenant, filters): shown to another list it is invalid, as AIP-158 asks.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson

from groundswell.kernel import errors

T = TypeVar("T")

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000


class InvalidPageToken(errors.Invalid):
    def __init__(self) -> None:
        super().__init__(
            "This page_token is not one that this list gave out. Start again without it.", field="page_token"
        )


def size(asked: int, *, most: int = PAGE_SIZE_MAX) -> int:
    """How many rows a page holds: the default when 0 is asked, never over `most`; raises `Invalid` when negative."""
    if asked < 0:
        raise errors.Invalid("page_size must not be negative.", field="page_size")
    return min(asked or PAGE_SIZE_DEFAULT, most)


def token(position: list[int | str], scope: str, key: bytes) -> str:
    """The token of the place after `position`."""
    body = orjson.dumps(position)
    return base64.urlsafe_b64encode(_sign(body, scope, key) + body).decode().rstrip("=")


def cut(
    found: Sequence[T], size_: int, position_: Callable[[T], list[int | str]], scope: str, key: bytes
) -> tuple[Sequence[T], str]:
    """A page of at most `size_` rows and the token of the next one, from `found`, which holds one row more if there is one."""
    if len(found) <= size_:
        return found, ""
    return found[:size_], token(position_(found[size_ - 1]), scope, key)


def position(token_: str, scope: str, key: bytes) -> list[int | str] | None:
    """The position in a token, None for the first page; raises `InvalidPageToken`."""
    if not token_:
        return None
    try:
        raw = base64.urlsafe_b64decode(token_ + "=" * (-len(token_) % 4))
    except ValueError as error:
        raise InvalidPageToken from error
    signature, body = raw[:12], raw[12:]
    if not hmac.compare_digest(signature, _sign(body, scope, key)):
        raise InvalidPageToken
    parsed: list[int | str] = orjson.loads(body)
    return parsed


def _sign(body: bytes, scope: str, key: bytes) -> bytes:
    return hmac.digest(key, scope.encode() + b"\0" + body, hashlib.sha256)[:12]
