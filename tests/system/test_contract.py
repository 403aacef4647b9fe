"""The document of the real platform against the real platform: all modules on their engines, asked with real keys.

Schemathesis sends what the document permits and what it forbids, drawn by a fixed seed, and holds every answer to all its checks.
"""

import asyncio
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from loadtests import scenario
from loadtests.platform.installation import Installation

ROOT = Path(__file__).parents[2]
EXAMPLES = 15
SEED = 20260101
RUN_S_MAX = 180.0
CONFIG = """
[checks.positive_data_acceptance]
# JSON Schema cannot say that a page token is one that was given out, that a range ends after it starts, that two names of a request
# agree, that a host exists or that a link has not expired. Such refusals are 400, 422 and 410; contract_checks.py holds each of the
# former to a domain's code and a named field.
expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 410, 422, 429, "5xx"]
"""
STREAM = "--exclude-path=/v1/metrics:watch"
"""It has no end to wait for; tests of streams hold it."""


@dataclass(frozen=True)
class Platform:
    """What a run asks and with which key."""

    url: str
    staff_key: str
    tenant: scenario.Tenant


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform with one tenant that has links."""
    installation = Installation(tmp_path_factory.mktemp("contract") / "home")
    asyncio.run(installation.up("all", port=0))
    try:
        tenant = asyncio.run(scenario.prepare(installation, "contract", 40))
        credentials = installation.credentials()
        yield Platform(credentials.url, credentials.platform_key, tenant)
    finally:
        asyncio.run(installation.down())


def found(platform: Platform, folder: Path, key: str, known: Mapping[str, list[str]], *options: str) -> str:
    """What Schemathesis complains of; empty when it does not."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{platform.url}/openapi.json",
        "--checks=all",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        "--generation-deterministic",
        "--phases=examples,coverage,fuzzing",
        "--workers=1",
        "--continue-on-failure",
        "--no-color",
        f"--header=Authorization: Bearer {key}",
        *options,
    ]
    environment = os.environ | {
        "COLUMNS": "160",
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.system.contract_checks",
        "CONTRACT_KNOWN": json.dumps(dict(known)),
        "CONTRACT_HOST": platform.tenant.links[0].host,
    }
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, cwd=folder, env=environment)
    return "" if run.returncode == 0 else re.sub(r"\n{3,}", "\n\n", run.stdout + run.stderr)[-12_000:]


@pytest.mark.promise("LINKS-12")
async def test_a_link_is_kept_outside_only_where_it_says_so(platform: Platform) -> None:
    headers = {"Authorization": f"Bearer {platform.tenant.key}"}
    async with httpx.AsyncClient(base_url=platform.url, headers=headers, trust_env=False) as client:

        async def followed(**options: int) -> httpx.Response:
            made = await client.post("/v1/links", json={"destination": "https://shop.example/kept", **options})
            short = urlsplit(made.json()["shortUrl"])
            return await client.get(short.path, headers={"Host": short.netloc})

        counted, kept = await followed(), await followed(edgeSeconds=60, redirectStatus=301)
    assert (counted.status_code, counted.headers["cache-control"]) == (302, "private, no-store")
    assert not {"cdn-cache-control", "cache-tag"} & set(counted.headers)
    assert kept.status_code == 301
    assert "s-maxage=60, stale-while-revalidate=" in kept.headers["cache-control"]
    assert kept.headers["cache-tag"].startswith("link/")


@pytest.mark.promise("LINKS-6", "LINKS-12")
async def test_a_visitor_is_led_to_an_app_as_its_address_was_written_once_the_domain_allows_it(
    platform: Platform,
) -> None:
    """From the refusal that says how to the redirect and the page, for a key that may; the domain is the one made by itself."""
    app = "Spotify://Track/1?si=%2f&a[]=1#Top"
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False) as client:

        async def asked(method: str, path: str, body: object = None, key: str = platform.tenant.key) -> httpx.Response:
            return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})

        async def followed(**options: object) -> httpx.Response:
            made = await asked("POST", "/v1/links", {"destination": app} | options)
            assert (made.status_code, made.json()["destination"]) == (201, app)
            short = urlsplit(made.json()["shortUrl"])
            return await client.get(short.path, headers={"Host": short.netloc})

        own = (await asked("GET", "/v1/domains")).json()["domains"][0]["name"]
        refused = await asked("POST", "/v1/links", {"destination": app})
        assert (refused.status_code, refused.json()["code"]) == (422, "SCHEME_NOT_ALLOWED")
        assert refused.json()["fields"][0]["field"] == "link.destination"
        assert f"PATCH /v1/{own}" in refused.json()["detail"]
        limited = {"displayName": "limited", "scopes": ["links.read", "links.create", "links.update"]}
        limited_key = (await asked("POST", "/v1/apiKeys", {"apiKey": limited})).json()["secret"]
        for key, status in ((limited_key, 403), (platform.tenant.key, 200)):
            answer = await asked("PATCH", f"/v1/{own}?updateMask=schemes", {"schemes": ["Spotify"]}, key)
            assert answer.status_code == status, answer.text
        assert answer.json()["schemes"] == ["spotify"]
        bad = await asked("PATCH", f"/v1/{own}", {"schemes": ["fb", "JavaScript"]})
        assert (bad.status_code, bad.json()["fields"][0]["field"]) == (422, "domain.schemes[1]")
        plain, kept, page = await followed(), await followed(edgeSeconds=60), await followed(suspicious=True)
    assert (plain.status_code, plain.headers["location"], plain.content) == (302, app, b"")
    assert (kept.headers["location"], kept.headers["etag"][0]) == (app, '"')
    assert (page.status_code, "location" in page.headers) == (200, False)
    assert f'href="{html.escape(app)}"' in page.text


@pytest.mark.promise("GATEWAY-2")
def test_a_tenant_finds_no_answer_of_the_platform_that_its_document_does_not_describe(
    platform: Platform, tmp_path: Path
) -> None:
    """GATEWAY-2. Every method that a tenant's key may call, and those that it may not, on links that exist and on others."""
    links = platform.tenant.links
    headers = {"Authorization": f"Bearer {platform.tenant.key}"}
    domains = httpx.get(f"{platform.url}/v1/domains", headers=headers, trust_env=False).json()["domains"]
    known = {
        "link": [each.id for each in links[:20]],
        "code": [each.path.removeprefix("/") for each in links[20:]],
        "domain": [each["name"].removeprefix("domains/") for each in domains],
    }
    complaints = found(platform, tmp_path, platform.tenant.key, known, STREAM)
    assert not complaints, complaints


@pytest.mark.promise("GATEWAY-2")
def test_staff_find_no_answer_of_the_platform_that_its_document_does_not_describe(
    platform: Platform, tmp_path: Path
) -> None:
    """GATEWAY-2. The methods of tenants and keys as the platform's own key sees them."""
    known = {"tenant": [platform.tenant.name.removeprefix("tenants/")]}
    only = "--include-path-regex=^/v1/(tenants|apiKeys)"
    complaints = found(platform, tmp_path, platform.staff_key, known, only)
    assert not complaints, complaints
