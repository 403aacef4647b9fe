"""The public door, as a program of a user would call it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson

from loadtests.platform.installation import PlatformFailed

TIMEOUT_S = 15.0
NOT_READY_TRIES_MAX = 10
"""A tenant's own domain is made when the news of the tenant arrives; whoever is faster is told to try again."""
BATCH_MAX = 1_000
LIVE_NUMBERS = ("freshnessMs", "windowEvents", "windowBots")
ITEMS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Link:
    """A short link: `id` as the books name it, `host` and `path` as a visitor asks for it."""

    id: str
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class Clicks:
    """What a link says of itself."""

    total: int
    bots: int


@dataclass(frozen=True, slots=True)
class Balance:
    """The books of the tenant."""

    accepted: int
    stored: int
    parked: int
    difference: int
    rollup_second: int
    rollup_minute: int
    rollup_hour: int
    rollup_device_hour: int
    rollup_item_minute: int
    rollup_item_hour: int
    totals: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Live:
    """One message of the live page."""

    freshness_ms: int
    window_events: int
    window_bots: int
    is_complete: bool
    """Whether the counters have read the log to its end since their process started."""


def asking(key: str, domain: str = "") -> dict[str, str]:
    """Headers for the API: who asks, and whose API is meant where the door is reached by another name than its domain."""
    return {"Authorization": f"Bearer {key}"} | ({"Host": domain} if domain else {})


class Door:
    """Calls the public API with one key. Use as a context manager."""

    def __init__(self, url: str, key: str, domain: str = "") -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, headers=asking(key, domain), timeout=TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> "Door":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def create_tenant(self, slug: str, display_name: str) -> str:
        """The new tenant's name."""
        return str((await self._call("POST", "/v1/tenants", {"slug": slug, "displayName": display_name}))["name"])

    async def create_key(self, tenant: str, display_name: str) -> str:
        """The secret of a new key that may do everything in `tenant`."""
        asked = {"apiKey": {"displayName": display_name, "scopes": ["*"]}, "tenant": tenant}
        return str((await self._call("POST", "/v1/apiKeys", asked))["secret"])

    async def create_links(self, destinations: Sequence[str]) -> list[Link]:
        """One new link for each destination."""
        links: list[Link] = []
        for start in range(0, len(destinations), BATCH_MAX):
            batch = [{"destination": each} for each in destinations[start : start + BATCH_MAX]]
            links += [
                link_of(each) for each in (await self._call("POST", "/v1/links:batchCreate", {"links": batch}))["links"]
            ]
        return links

    async def clicks(self, link: Link) -> Clicks:
        told = await self._call("GET", f"/v1/links/{link.id}")
        return Clicks(int(told.get("clickCount", 0)), int(told.get("botCount", 0)))

    async def balance(self) -> Balance:
        told = await self._call("GET", "/v1/analytics/balance")
        return Balance(**{name: int(told.get(_camel(name), 0)) for name in Balance.__slots__})

    async def stored_by_item(self) -> dict[str, int]:
        """All clicks of the last day by item, from the store."""
        clicks = [{"dimension": "kind", "values": ["click"]}]
        rows = await self._events(dimensions=["item"], filters=clicks, limit=ITEMS_MAX)
        return {row["dimensions"]["item"]: int(row["measures"]["events"]) for row in rows}

    async def events(self) -> int:
        """How many events of the last day the store answers with."""
        return sum(int(row["measures"]["events"]) for row in await self._events())

    async def _events(self, **asked: object) -> list[dict[str, Any]]:
        """The rows of an answer about the events of the last day."""
        now = datetime.now(UTC)
        span = {"start": _timestamp(now - timedelta(days=1)), "end": _timestamp(now + timedelta(hours=1))}
        question = {"measures": ["events"], "range": span, **asked}
        found: list[dict[str, Any]] = (await self._call("POST", "/v1/analytics:query", question)).get("rows", [])
        return found

    async def watch(self, kind: str = "click") -> AsyncGenerator[Live, None]:
        """The live page's messages about one kind of event; raises `httpx.HTTPError` when the stream breaks."""
        async with self._client.stream("GET", "/v1/metrics:watch", params={"kind": kind}) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    told = orjson.loads(line[5:])
                    freshness_ms, events, bots = (int(told.get(name, 0)) for name in LIVE_NUMBERS)
                    yield Live(freshness_ms, events, bots, "completeTime" in told)

    async def look(self, kind: str = "click") -> Live:
        """The next message of the live page."""
        async with aclosing(self.watch(kind)) as messages:
            async for message in messages:
                return message
        raise PlatformFailed("The live page's stream ended without a message.")

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        content = None if body is None else orjson.dumps(body)
        for _ in range(NOT_READY_TRIES_MAX):
            response = await self._client.request(
                method, path, content=content, headers={"Content-Type": "application/json"}
            )
            if response.status_code != 503 or response.json().get("code") != "DOMAIN_NOT_READY":
                break
            await asyncio.sleep(float(response.headers["retry-after"]))
        if response.is_error:
            raise PlatformFailed(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        told: dict[str, Any] = orjson.loads(response.content)
        return told


def link_of(told: dict[str, Any]) -> Link:
    """The link that an answer of the public API tells of."""
    return Link(told["name"].removeprefix("links/"), told["domain"], f"/{told['code']}")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)


def _timestamp(moment: datetime) -> str:
    """Whole hours: any level of the store can answer them exactly."""
    return moment.replace(minute=0, second=0, microsecond=0).isoformat().replace("+00:00", "Z")
