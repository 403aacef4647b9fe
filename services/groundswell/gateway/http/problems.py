"""Errors as `application/problem+json` (RFC 9457), with a stable `type` for each reason.

What the platform got wrong itself leaves as 500 with the request id and nothing else.
"""

import math
from typing import Any

import orjson

from groundswell.gateway import errors as own
from groundswell.kernel import access, errors

MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "https://groundswell.dev/errors/"
CHALLENGE = b'Bearer realm="groundswell"'
REFUSED = CHALLENGE + b', error="invalid_token"'
"""RFC 6750: the error only for who sent a credential; who sent none is merely told how."""

Header = tuple[bytes, bytes]

TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 410: "Gone", 412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long",
    415: "Unsupported Media Type", 421: "Misdirected Request", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip

# First match by isinstance, so a subclass stands before its base.
_STATUSES: tuple[tuple[type[errors.Error], int], ...] = (
    (errors.Unprocessable, 422),
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Denied, 403),
    (errors.Gone, 410),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.Conflict, 409),
    (errors.FailedPrecondition, 400),
    (errors.Exhausted, 429),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
)


def status_of(error: errors.Error, *, preconditioned: bool = False) -> int:
    """The HTTP status of an error; `preconditioned`: the request carried `If-Match` or its like."""
    if isinstance(error, own.Refusal):
        return error.status
    if preconditioned and isinstance(error, errors.FailedPrecondition):
        return 412
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def problem(error: errors.Error, instance: str, *, preconditioned: bool = False) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of the answer to a request that failed; `instance` names the request."""
    status = status_of(error, preconditioned=preconditioned)
    if status == 500:
        return status, [(b"content-type", MEDIA_TYPE)], _internal(instance)
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + error.reason.lower().replace("_", "-"),
        "title": TITLES[status],
        "status": status,
        "detail": error.message,
        "instance": instance,
        "code": error.reason,
        "message": error.message,
        "fields": [{"field": each.field, "description": each.description} for each in error.fields],
    }
    headers = [(b"content-type", MEDIA_TYPE), *(error.headers() if isinstance(error, own.Refusal) else ())]
    if status == 401:
        refused = error.reason == access.InvalidCredential.reason  # also where another process said so
        headers.append((b"www-authenticate", REFUSED if refused else CHALLENGE))
    if error.retry_after_s is not None or status in (429, 503, 504):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s or 1.0))))
    return status, headers, orjson.dumps(document)


def _internal(instance: str) -> bytes:
    title = TITLES[500]
    document = {
        "type": TYPE_PREFIX + "internal",
        "title": title,
        "status": 500,
        "instance": instance,
        "code": "INTERNAL",
        "fields": [],
    }
    return orjson.dumps(
        document | {"detail": "The platform made a mistake.", "message": "The platform made a mistake."}
    )
