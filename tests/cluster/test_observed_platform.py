"""Every expression of the chart's rules and dashboards, asked of a Prometheus that scrapes a platform at work.

Goal: no panel and no alert asks for what nothing emits. Method: the whole platform as processes of this machine, an operator and its bridge
on the tests' control plane, and a Prometheus that reads all of them every second; visitors, faults and a spike bring about what shows only
after it happened. Then each expression has an answer, with the labels that its legend shows.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeStarted
from loadtests import scenario
from loadtests.platform.installation import Installation
from tests.cluster import bridging
from tests.cluster.control_plane.api import until
from tests.cluster.forms import slow
from tests.cluster.observed import queries, rules, selected
from tests.cluster.operating import BRIDGE, Operated, scales
from tests.cluster.prometheus import Prometheus, scraping
from tests.cluster.tools.families import Shelf

pytestmark = pytest.mark.alone

LINKS = 40
ANSWERED_S_MAX = 90.0
PAUSE_S = 0.2
"""Between visits: what is asked is which figures there are, not how high they are."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a short path, since sockets lie in it; what runs in it is ended with the test."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-observed-"))
    yield folder / "home"
    down = [sys.executable, "-m", "groundswell", "down", "--home", str(folder / "home")]
    subprocess.run(down, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Visitors:
    """People who use one tenant of a platform in every way that leaves a figure."""

    platform: Installation
    tenant: scenario.Tenant

    async def visit(self, client: httpx.AsyncClient, number: int) -> int:
        """Opens a short link; the status."""
        link = self.tenant.links[number % len(self.tenant.links)]
        return (await client.get(link.path, headers={"Host": link.host})).status_code

    async def work(self, client: httpx.AsyncClient) -> int:
        """Lists, collects, asks, and does what a client's mistake is; the status of the list."""
        events = [{"kind": "view", "item": "a"}, {"kind": "click", "item": "b"}]  # clicks are not taken from clients
        await client.post("/v1/events:collect", json={"events": events})
        await client.get("/v1/analytics/balance")
        await client.get("/v1/apiKeys")
        return (await client.get("/v1/links")).status_code

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """With the tenant's key."""
        headers = {"Authorization": f"Bearer {self.tenant.key}"}
        url = self.platform.credentials().url
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=15, trust_env=False) as client:
            yield client

    async def come(self) -> None:
        """Come and come again, until cancelled."""
        async with self.client() as client:
            for number in range(1_000_000):
                await self.visit(client, number % 3)
                await self.work(client)
                await asyncio.sleep(PAUSE_S)

    async def meet_outages(self) -> None:
        """Visits that nobody remembers while Valkey is away, and work while PostgreSQL is."""
        async with self.client() as client:
            await self.platform.stop("valkey")
            for number in range(3, LINKS):
                await self.visit(client, number)
            await self.platform.start("valkey")
            await self.platform.stop("postgres")
            assert await self.work(client) == 503
            await self.platform.start("postgres")


async def bury(kafka: str) -> None:
    """Puts a frame and an event onto the log that nobody can read."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for topic in ("analytics.frames.v1", "analytics.totals.v1"):
            await producer.send_and_wait(topic, b"neither frame nor event", key=b"1")
    finally:
        await producer.stop()


async def unanswered(prometheus: Prometheus) -> list[str]:
    """What has no answer, or none with the labels that are asked for."""
    found = []
    for query in queries():
        answers = await prometheus.ask(query.expression)
        if not answers or query.shown - {label for answer in answers for label in answer}:
            found.append(f"{query.panel}: {query.expression} gives {answers}")
    for rule in rules("record"):
        labels = ",".join(f'{name}="{value}"' for name, value in rule["labels"].items())
        if not await prometheus.ask(f"{rule['record']}{{{labels}}}"):
            found.append(f"{rule['record']} of {labels}")
    for rule in (*rules("alert"), *rules("record")):
        for metric, chosen in selected(rule["expr"]):
            labels = ",".join(f'{label}!=""' for label in sorted(chosen - {"service", "slo"}))
            if not await prometheus.ask(f"{metric}{{{labels}}}"):
                found.append(f"{metric} with {labels}, for {rule.get('alert', rule.get('record'))}")
    return found


async def all_answered(prometheus: Prometheus) -> bool:
    return not await unanswered(prometheus)


@slow
async def test_every_expression_has_an_answer_in_what_a_platform_at_work_emits(
    monitoring: Shelf, place: Operated, home: Path, tmp_path: Path
) -> None:
    platform = Installation(home)
    await platform.up("each", port=0)
    kafka = next(iter(platform.addresses("kafka").values()))
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka}
    bridge = place.start("bridge", "groundswell_operator", "bridge", account=BRIDGE, environment=environment)
    operator = place.start("operator")
    await place.leads(operator)
    await place.target("web", 2)
    await place.policy(actions=[scales("web", 3)])
    addresses = {name: platform.addresses(name).get("ops", "") for name in platform.processes()}
    addresses |= {each.identity: f"127.0.0.1:{each.port}" for each in (bridge, operator)}
    async with scraping(monitoring, tmp_path, {pod: at for pod, at in addresses.items() if at}) as prometheus:
        visitors = Visitors(platform, await scenario.prepare(platform, "observed", LINKS))
        await scenario.warm(platform, visitors.tenant)
        await bridging.publish(kafka, [bridging.event(SpikeStarted, secrets.token_hex(8))])
        await bury(kafka)
        await visitors.meet_outages()
        coming = asyncio.create_task(visitors.come())
        try:
            with suppress(TimeoutError):  # what is missing is said below
                await until(lambda: all_answered(prometheus), ANSWERED_S_MAX)
            assert await unanswered(prometheus) == []
            assert not coming.done(), "the visitors gave up"
        finally:
            coming.cancel()
        assert [rule for rule in await prometheus.rules() if rule["health"] != "ok"] == []
        firing = await prometheus.ask('ALERTS{alertstate="firing"}')
        assert {"GroundswellDeadLetters", "GroundswellFramesSetAside"} <= {each["alertname"] for each in firing}
