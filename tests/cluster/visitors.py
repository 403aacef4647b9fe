"""Load on a release: visitors who open links, and programs that use the API, each of whose calls must succeed.

The visitors are loadtests' generator, and their clicks are compared with the books as loadtests does it. The programs make a call after
the other over connections that they keep, as SDKs do, and remember what was acknowledged to them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from loadtests.arrivals import Stream, Visitors, constant, draw
from loadtests.generator.child import Load
from loadtests.generator.log import Outcome
from loadtests.generator.order import Order, Target
from loadtests.oracles import books as oracle
from loadtests.oracles import reading
from loadtests.platform.api import Door, Link

LINKS = 5
PROGRAMS = 4
PAUSE_S = 0.15
"""Between two rounds of a program, each of four calls."""
WELL = range(200, 400)


@dataclass
class Calls:
    """What programs did through the door."""

    url: str
    key: str
    made: dict[str, str] = field(default_factory=dict)
    """Destinations of links that were acknowledged, by name."""
    failures: list[str] = field(default_factory=list)
    count: int = 0

    async def program(self, number: int) -> None:
        """Makes, reads, opens and sums up, until it is cancelled."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=15.0) as client:
            while True:
                await self._round(client, f"https://shop.example/{number}/{secrets.token_hex(8)}")
                await asyncio.sleep(PAUSE_S)

    async def lost(self) -> list[str]:
        """Acknowledged links that are not there, or lead elsewhere."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False) as client:
            found = {name: await client.get(f"/v1/{name}") for name in self.made}
        return [
            f"{name}: {answer.status_code} {answer.text[:200]}"
            for name, answer in found.items()
            if answer.status_code not in WELL or answer.json()["destination"] != self.made[name]
        ]

    async def _round(self, client: httpx.AsyncClient, destination: str) -> None:
        answer = await self._call(client, "POST", "/v1/links", json={"destination": destination})
        if answer is None:
            return
        link = answer.json()
        self.made[link["name"]] = destination
        await self._call(client, "GET", f"/v1/{link['name']}")
        await self._call(client, "GET", f"/{link['code']}", headers={"Host": link["domain"], "User-Agent": "curl/8"})
        await self._call(client, "GET", "/v1/analytics/balance")

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
        try:
            answer = await client.request(method, path, json=json, headers=headers)
        except httpx.HTTPError as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return None
        if answer.status_code not in WELL:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        return answer


@dataclass
class Visits:
    """What became of a load, and what the books say of it."""

    rate: float
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Sentences of the judgements that do not hold."""
    off_share: float = 0.0
    calls: Calls = field(default_factory=lambda: Calls("", ""))

    @property
    def failed(self) -> list[str]:
        """Every request that failed, of visitors and programs."""
        good = {Outcome.COUNTED.name, Outcome.SPOOLED.name, Outcome.SKIPPED.name}
        visits = [f"{count} visits {name}" for name, count in self.outcomes.items() if count and name not in good]
        return visits + self.calls.failures


@asynccontextmanager
async def load(url: str, platform_key: str, folder: Path, *, rate: float, seconds_max: float) -> AsyncIterator[Visits]:
    """A load of `rate` visits a second and `PROGRAMS` programs while the block runs; afterwards its books are read."""
    _, key, links = await _tenant(url, platform_key)
    visits = Visits(rate, calls=Calls(url, (await _tenant(url, platform_key))[1]))
    plan = draw([Stream(constant(rate, seconds_max), 0, LINKS, 0.8)], Visitors(), seed=1)
    order = Order(
        urlsplit(url).hostname or "", urlsplit(url).port or 0, 1, tuple(Target(e.host, e.path) for e in links)
    )
    async with Load(folder, plan, order) as running, asyncio.TaskGroup() as group:
        programs = [group.create_task(visits.calls.program(number)) for number in range(PROGRAMS)]
        while not running.started_s:
            await asyncio.sleep(0.02)
        yield visits
        for each in programs:
            each.cancel()
        loaded = await running.finished()
    promised = oracle.promised(loaded, LINKS)
    visits.outcomes = {outcome.name: count for outcome, count in promised.outcomes.items()}
    visits.off_share = loaded.off_share
    async with Door(url, key) as door:
        read, _ = await reading.settled(door, links, promised)
    visits.wrong = [f"{each.name}: {each.sentence}" for each in oracle.judge(promised, read) if not each.holds]


async def _tenant(url: str, platform_key: str) -> tuple[str, str, Sequence[Link]]:
    """A new tenant with a key and links, made through the door as staff would."""
    slug = f"load-{secrets.token_hex(4)}"
    async with Door(url, platform_key) as staff:
        tenant = await staff.create_tenant(slug, slug)
        key = await staff.create_key(tenant, "load")
    async with Door(url, key) as door:
        links = await door.create_links([f"https://shop.example/{slug}/{number}" for number in range(LINKS)])
    return tenant, key, links
