"""Load on a release: visitors who open links, and programs that use the API, each of whose calls must succeed.

The visitors are loadtests' generator, and their clicks are compared with the books as loadtests does it. The programs make a call after
the other over connections that they keep, as SDKs do, and remember what was acknowledged to them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from loadtests.arrivals import Stream, Visitors, constant, draw
from loadtests.generator.child import Load, Loaded
from loadtests.generator.log import Outcome
from loadtests.generator.order import Order, Target
from loadtests.oracles import books as oracle
from loadtests.oracles import reading
from loadtests.oracles.books import Promised
from loadtests.platform.api import Door, Link
from loadtests.platform.installation import PlatformFailed

LINKS = 5
PROGRAMS = 4
PAUSE_S = 0.15
"""Between two rounds of a program, each of five calls."""
PAGE_S = 2.0
KEPT = ("counted", "spooled")
WELL = range(200, 400)
GOOD = (Outcome.COUNTED, Outcome.SPOOLED, Outcome.SKIPPED)
PART_S = 8.0


@dataclass
class Calls:
    """What programs did through the door."""

    url: str
    key: str
    made: dict[str, str] = field(default_factory=dict)
    """Destinations of links that were acknowledged, by name."""
    events: int = 0
    """Acknowledged events and clicks."""
    unknown: int = 0
    """Events and clicks whose request failed: they may be stored or not."""
    failures: list[str] = field(default_factory=list)
    count: int = 0
    slowest: tuple[float, str] = (0.0, "")
    """Seconds, and which call took them."""

    async def program(self, number: int, over: asyncio.Event) -> None:
        """Makes, reads and opens links and tells of events, round for round until it is over."""
        async with self._client() as client:
            while not over.is_set():
                await self._round(client, f"https://shop.example/{number}/{secrets.token_hex(8)}")
                await asyncio.sleep(PAUSE_S)

    async def page(self, over: asyncio.Event) -> None:
        """Asks the store how much there was of what today, now and then until it is over."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = {"start": _timestamp(today), "end": _timestamp(today + timedelta(days=2))}
        asked = {"measures": ["events"], "dimensions": ["kind"], "range": days}
        async with self._client() as client:
            while not over.is_set():
                await self._call(client, "POST", "/v1/analytics:query", json=asked)
                await asyncio.sleep(PAGE_S)

    async def lost(self) -> list[str]:
        """What was acknowledged and is not there: links, events and clicks. Called when nothing is under way."""
        async with self._client() as client:
            found = {name: await client.get(f"/v1/{name}") for name in self.made}
        lost = [
            f"{name}: {answer.status_code} {answer.text[:200]}"
            for name, answer in found.items()
            if answer.status_code not in WELL or answer.json()["destination"] != self.made[name]
        ]
        async with Door(self.url, self.key) as door:
            stored = await self._stored(door, time.monotonic() + reading.PATIENCE_S)
        if self._right(stored):
            return lost
        return [*lost, f"{self.events} events acknowledged, {self.unknown} unknown, {stored} stored"]

    def _right(self, stored: int | None) -> bool:
        return stored is not None and self.events <= stored <= self.events + self.unknown

    async def _stored(self, door: Door, until_s: float) -> int | None:
        """How many events are stored, once it is as many as it should be, or when patience ends; None when nobody could say."""
        stored = None
        while not self._right(stored) and time.monotonic() < until_s:
            with suppress(PlatformFailed):  # the store takes longer than a balance may, when the machine is busy
                stored = (await door.balance()).stored
            await asyncio.sleep(reading.PAUSE_S)
        return stored

    def _client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=15.0)

    async def _round(self, client: httpx.AsyncClient, destination: str) -> None:
        answer = await self._call(client, "POST", "/v1/links", json={"destination": destination})
        if answer is None:
            return
        link = answer.json()
        self.made[link["name"]] = destination
        await self._call(client, "GET", f"/v1/{link['name']}")
        opened = await self._call(client, "GET", f"/{link['code']}", headers={"Host": link["domain"]})
        self.events += opened is not None and opened.headers.get("groundswell-view") in KEPT
        self.unknown += opened is None
        event = {"kind": "view", "item": link["code"], "anonymousId": secrets.token_hex(8)}
        told = await self._call(client, "POST", "/v1/events:collect", json={"events": [event]})
        self.events += told is not None and told.json()["accepted"]
        self.unknown += told is None
        await self._call(client, "GET", "/v1/apiKeys")

    async def _call(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        json: object = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """The answer; None when it is none, or not a good one, which is written down."""
        self.count += 1
        began_s = time.monotonic()
        try:
            answer = await client.request(method, path, json=json, headers=headers)
        except httpx.HTTPError as error:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {method} {path}: {error!r}")
            return None
        if answer.status_code not in WELL:
            self.failures.append(
                f"{time.strftime('%H:%M:%S')} {method} {path}: {answer.status_code} {answer.text[:300]}"
            )
            return None
        self.slowest = max(self.slowest, (time.monotonic() - began_s, f"{method} {path}"))
        return answer


@dataclass
class Visits:
    """What became of a load, and what the books say of it."""

    calls: Calls
    promised: Promised = field(default_factory=lambda: Promised({}, [0] * LINKS, [0] * LINKS, 0, 0))
    off_shares: list[float] = field(default_factory=list)
    """Of each part of the load: which share of its visits did not come when ordered."""
    wrong: list[str] = field(default_factory=list)
    """Sentences of the judgements over the books that do not hold."""
    refused: list[str] = field(default_factory=list)
    """Connections that the door of the cluster could not hand on, as its forwarder told."""

    @property
    def failed(self) -> list[str]:
        """Every request that failed, of visitors and programs."""
        visits = [f"{count} visits {each.name}" for each, count in self.promised.outcomes.items() if each not in GOOD]
        return visits + self.calls.failures

    def add(self, loaded: Loaded) -> None:
        """A part of the load is over."""
        self.promised = _sum(self.promised, oracle.promised(loaded, LINKS))
        self.off_shares.append(loaded.off_share)


@asynccontextmanager
async def load(url: str, platform_key: str, folder: Path, rate: float) -> AsyncIterator[Visits]:
    """A load of `rate` visits a second and `PROGRAMS` programs while the block runs; afterwards its books are read.

    The visits come in parts of `PART_S` each, the last of which may outlast the block.
    """
    key, links = await _tenant(url, platform_key)
    visits = Visits(Calls(url, (await _tenant(url, platform_key))[0]))
    order = Order(
        urlsplit(url).hostname or "", urlsplit(url).port or 0, 1, tuple(Target(e.host, e.path) for e in links)
    )
    begun, over = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_visit(visits, order, folder, rate, begun, over))
        for number in range(PROGRAMS):
            group.create_task(visits.calls.program(number, over))
        group.create_task(visits.calls.page(over))
        try:
            await begun.wait()
            yield visits
        finally:
            over.set()
    async with Door(url, key) as door:
        read = (await reading.settled(door, links, visits.promised)).books
    visits.wrong = [f"{each.name}: {each.sentence}" for each in oracle.judge(visits.promised, read) if not each.holds]


async def _visit(
    visits: Visits, order: Order, folder: Path, rate: float, begun: asyncio.Event, over: asyncio.Event
) -> None:
    for part in itertools.count():
        plan = draw([Stream(constant(rate, PART_S), 0, LINKS, 0.8)], Visitors(), seed=part)
        (place := folder / f"part-{part}").mkdir()
        async with Load(place, plan, replace(order, seed=part)) as running:
            while not running.started_s:
                await asyncio.sleep(0.02)
            begun.set()
            visits.add(await running.finished())
        if over.is_set():
            return


def _sum(one: Promised, other: Promised) -> Promised:
    return Promised(
        Counter(one.outcomes) + Counter(other.outcomes),
        [sum(pair) for pair in zip(one.by_target, other.by_target, strict=True)],
        [sum(pair) for pair in zip(one.unknown_by_target, other.unknown_by_target, strict=True)],
        one.bots + other.bots,
        one.unknown_bots + other.unknown_bots,
    )


async def _tenant(url: str, platform_key: str) -> tuple[str, Sequence[Link]]:
    """The key of a new tenant, and its links, made through the door as staff would."""
    slug = f"load-{secrets.token_hex(4)}"
    async with Door(url, platform_key) as staff:
        tenant = await staff.create_tenant(slug, slug)
        key = await staff.create_key(tenant, "load")
    async with Door(url, key) as door:
        links = await door.create_links([f"https://shop.example/{slug}/{number}" for number in range(LINKS)])
    return key, links


def _timestamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
