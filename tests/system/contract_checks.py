"""What Schemathesis is told about this platform: one more check, and the names of things that are there.

Loaded by its command line (`SCHEMATHESIS_HOOKS`). `CONTRACT_KNOWN` holds names by path parameter as JSON, and the host of the links: every
second request that the document permits asks for one of them, so that methods are not only met by 404.
"""

import json
import os
import zlib
from typing import Any

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(os.environ.get("CONTRACT_KNOWN", "{}"))
HOST = os.environ.get("CONTRACT_HOST", "")
GOOD: dict[str, dict[str, Any]] = {
    "/v1/links": {"destination": "https://shop.example/contract"},
    "/v1/links/{link}": {"destination": "https://shop.example/changed"},
    "/v1/links:batchCreate": {
        "links": [{"destination": "https://shop.example/first"}, {"destination": "https://shop.example/next"}]
    },
    "/v1/domains": {"host": "contract-{number}.example"},
    "/v1/domains/{domain}": {"schemes": ["spotify"]},
    "/v1/deniedHosts": {"host": "*.denied-{number}.example"},
    "/v1/apiKeys": {"apiKey": {"displayName": "Contract", "scopes": ["links.read"]}},
    "/v1/tenants": {"slug": "contract-{number}", "displayName": "Contract"},
    "/v1/analytics:query": {
        "range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "measures": ["events"],
        "dimensions": [],
        "filters": [],
    },
}
"""Fields whose rules the document cannot tell, with values that hold them; every second body gets them, so that the rest of it is met."""
SHAPE = frozenset({"INVALID_FIELDS", "MALFORMED_REQUEST", "MALFORMED_JSON"})
"""Codes of refusals that the document itself must have ruled out."""


def _is_permitted(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Puts known names in, and stays at this platform where it answers a redirect."""
    kwargs["allow_redirects"] = False
    if not _is_permitted(case):
        return
    for parameter, names in KNOWN.items():
        drawn = case.path_parameters.get(parameter)
        if drawn is not None and (number := zlib.crc32(str(drawn).encode("utf-8", "replace"))) % 2:
            case.path_parameters[parameter] = names[number // 2 % len(names)]
    good = GOOD.get(case.path)
    if good and isinstance(case.body, dict) and (number := zlib.crc32(repr(case.body).encode("utf-8", "replace"))) % 2:
        case.body.update(json.loads(json.dumps(good).replace("{number}", str(number))))
    if "code" in case.path_parameters:
        case.headers["Host"] = HOST


@schemathesis.check
def a_permitted_request_is_refused_for_its_meaning_only(ctx: Any, response: Any, case: Any) -> None:
    """A 400 or 422 to a request that the document permits names a rule of the domain and the field that breaks it."""
    if response.status_code not in (400, 422) or not _is_permitted(case):
        return
    told = response.json()
    assert told["code"] not in SHAPE, f"the document permits what the door refuses by its shape: {told['detail']}"
    assert told["fields"], f"the refusal names no field: {told['detail']}"
