"""The document of the real platform against the real platform: all modules on their engines, asked with real keys.

Schemathesis sends what the document permits and what it forbids, drawn by a fixed seed, and holds every answer to all its checks.
"""

import asyncio
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


@pytest.mark.promise("GATEWAY-2")
def test_a_tenant_finds_no_answer_of_the_platform_that_its_document_does_not_describe(
    platform: Platform, tmp_path: Path
) -> None:
    """GATEWAY-2. Every method that a tenant's key may call, and those that it may not, on links that exist and on others."""
    links = platform.tenant.links
    known = {"link": [each.id for each in links[:20]], "code": [each.path.removeprefix("/") for each in links[20:]]}
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
