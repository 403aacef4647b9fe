"""Goal: links gets replicas and loses them while it is used, and nobody notices. Method: the whole platform, its own operator, and visitors
who read and write at the public door without a pause or a retry of their own."""

import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.message import Message

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEnded, SpikeStarted
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from loadtests.platform.installation import Installation

pytestmark = pytest.mark.alone

VISITORS = 12
ROUNDS = 3
WAIT_S_MAX = 60.0
UNREAD_BYTES = 500
"""More than what gRPC says of itself on a connection: calls are among them."""
POLICY = """
apiVersion: groundswell.dev/v1alpha1
kind: ViralSpikePolicy
metadata: {name: default}
spec:
  mode: Enforce
  actions:
    - {name: readers, scale: {targetRef: {kind: Deployment, name: links}, multiplier: 3, max: 50}}
  cooldown: {quietPeriod: 1s, stepFactor: 0.5, stepInterval: 1s, minHold: 1s}
"""


@dataclass
class Crowd:
    """What the visitors have met."""

    asked: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)


@asynccontextmanager
async def crowd(url: str, key: str, *, reads: bool = True) -> AsyncIterator[Crowd]:
    """Visitors until the block ends: three of four read a link, the fourth makes one, which nobody may try again for them. Where none
    `reads`, all make links."""
    met, leaving = Crowd(), asyncio.Event()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        made = await client.post("/v1/links", json={"destination": "https://example.com/read"})
        made.raise_for_status()
        name = made.json()["name"]

        async def visit(number: int) -> None:
            while not leaving.is_set():
                met.asked += 1
                try:
                    answer = await (
                        client.get(f"/v1/{name}")
                        if reads and number % 4
                        else client.post("/v1/links", json={"destination": "https://example.com/made"})
                    )
                    if answer.status_code not in (200, 201):
                        met.failures.append(f"{answer.status_code}: {answer.text}")
                except httpx.HTTPError as error:
                    met.failures.append(repr(error))
                met.answered += 1

        visitors = [asyncio.create_task(visit(number)) for number in range(VISITORS)]
        try:
            yield met
        finally:
            leaving.set()
            await asyncio.gather(*visitors)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Scaled:
    """A platform with a process a module."""

    home: Path
    url: str
    key: str

    @property
    def platform(self) -> Installation:
        return Installation(self.home)

    def links(self) -> list[str]:
        """The replicas that have not ended."""
        return [name for name in self.platform.processes() if name.startswith("links")]

    def has_unread_calls(self, name: str) -> bool:
        """Whether a process that was frozen has been asked something since, as the kernel's table of its connections tells."""
        port = int(self.platform.addresses(name)["rpc"].rpartition(":")[2])
        rows = [
            row.split() for file in ("tcp", "tcp6") for row in Path(f"/proc/net/{file}").read_text().splitlines()[1:]
        ]
        unread = [int(row[4].partition(":")[2], 16) for row in rows if int(row[1].rpartition(":")[2], 16) == port]
        return sum(unread) >= UNREAD_BYTES

    async def ask(self, replicas: int) -> None:
        """Says how many are wanted, and does not wait for it."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.home / "supervisor.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            (await client.put("/processes/links", json={"replicas": replicas})).raise_for_status()

    async def scale(self, replicas: int) -> None:
        """Ends once there are so many, all ready."""
        await self.ask(replicas)
        await until(lambda: len(self.links()) == replicas)
        for name in self.links():
            await self.platform.ready(name, WAIT_S_MAX)

    async def answers_more(self, met: Crowd, requests: int = 100) -> None:
        before = met.answered
        await until(lambda: met.answered >= before + requests)


@pytest.fixture(scope="module")
def scaled() -> Iterator[Scaled]:
    """One that runs; a test begins and ends with one of each."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-scaling-"))
    platform = Installation(folder / "home")
    try:
        asyncio.run(platform.up("each", port=0))
        told = json.loads((folder / "home" / "credentials.json").read_text())
        yield Scaled(folder / "home", told["url"], told["api_key"])
    finally:
        asyncio.run(platform.down())
        shutil.rmtree(folder, ignore_errors=True)


async def test_links_is_scaled_up_and_down_under_load_and_no_request_fails(scaled: Scaled) -> None:
    """What a replica has taken when it is told to go is answered, although it was frozen just then; nothing is tried again for a visitor
    who writes. The control, on the same platform: a replica that is killed there loses what it has taken."""
    async with crowd(scaled.url, scaled.key) as met:
        for _ in range(ROUNDS):
            await scaled.scale(3)
            await scaled.answers_more(met)
            await scaled.scale(1)
            await scaled.answers_more(met)
        await scaled.scale(2)
        await scaled.answers_more(met)
        scaled.platform.signal("links-2", signal.SIGSTOP)
        await until(partial(scaled.has_unread_calls, "links-2"))
        await scaled.ask(1)
        scaled.platform.signal("links-2", signal.SIGCONT)
        await until(lambda: scaled.links() == ["links"])
        await scaled.answers_more(met)
    assert met.failures == []
    assert met.answered == met.asked > 100 * (2 * ROUNDS + 2)
    async with crowd(scaled.url, scaled.key, reads=False) as control:
        await scaled.scale(2)
        await scaled.answers_more(control)
        scaled.platform.signal("links-2", signal.SIGSTOP)
        await until(partial(scaled.has_unread_calls, "links-2"))
        scaled.platform.signal("links-2", signal.SIGKILL)
        await scaled.answers_more(control)
    await scaled.scale(1)
    assert control.failures, "a replica that is killed takes along what it was asked"


async def publish(kafka: str, kind: type[Message], identifier: str) -> None:
    spike = Spike(
        name=f"spikes/{identifier}", tenant="demo", kind="link", item="links/7", level=Spike.VIRAL,
        projected_views_hour=1_000_000,
    )  # fmt: skip
    spike.detected_time.GetCurrentTime()
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        headers = [("ce_type", kind.DESCRIPTOR.full_name.encode())]
        await producer.send_and_wait(
            "spikes.events.v1", kind(spike=spike, sequence=1).SerializeToString(), headers=headers
        )
    finally:
        await producer.stop()


async def test_the_operator_raises_links_for_a_spike_under_load_and_gives_it_back_and_no_request_fails(
    scaled: Scaled,
) -> None:
    policy, identifier = scaled.home / "policy.yaml", secrets.token_hex(8)
    policy.write_text(POLICY)
    kafka = scaled.platform.addresses("kafka")["KAFKA_BOOTSTRAP_SERVERS"]
    command = [sys.executable, "-m", "groundswell_operator", "laptop", f"--home={scaled.home}", str(policy)]
    with (scaled.home / "logs" / "operator.log").open("wb") as log:
        operator = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        async with crowd(scaled.url, scaled.key) as met:
            began_s = time.monotonic()
            await publish(kafka, SpikeStarted, identifier)
            await until(lambda: len(scaled.links()) == 3)
            for name in scaled.links():
                await scaled.platform.ready(name, WAIT_S_MAX)
            print(f"three replicas were ready {time.monotonic() - began_s:.1f} s after the record")
            await scaled.answers_more(met)
            await publish(kafka, SpikeEnded, identifier)
            await until(lambda: scaled.links() == ["links"])
            await scaled.answers_more(met)
        assert met.failures == []
        (spike,) = json.loads((scaled.home / "spikes.json").read_text())["spikes"].values()
        assert spike["status"]["targets"][0]["baseline"]["replicas"] == 1
    finally:
        operator.terminate()
        async with asyncio.timeout(30):
            await operator.wait()
