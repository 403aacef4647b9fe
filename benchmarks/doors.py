"""What the public door costs: a counted redirect, a near-cache hit, and a call that goes through.

A platform with a process for each module runs as `make up` starts it. The reference server and the gateway are flooded in turns, and the
median of the rounds counts, for both in answers for each second of the serving process's CPU time. A counted redirect is one only if the
books say so: after the floods, and after the paced part, they are read and judged as a drill's are.
"""

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.flood import CONNECTIONS, UNDER_WAY, Flooded, flooded
from benchmarks.result import Result, cpu_s, median
from groundswell.engines import ports
from loadtests import scenario
from loadtests.arrivals import Stream, Visitors, constant, draw
from loadtests.generator import histogram
from loadtests.generator.child import Load, Loaded
from loadtests.generator.log import Outcome
from loadtests.generator.order import Order, Target
from loadtests.oracles import reading
from loadtests.oracles.books import Books, Finding, Promised, judge
from loadtests.platform.api import Door
from loadtests.platform.installation import Installation

ROUNDS, ROUND_S, WARM_S = 5, 2.0, 1.0
PACED_RATE, PACED_S, PACED_P99_MS_MAX = 1_000.0, 8.0, 10.0
PACED_LINKS = 10


class Speed(NamedTuple):
    """Of one server over a round, which ended with requests under way."""

    per_cpu_s: float
    per_s: float
    answers: int


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers, and what to ask of it."""

    pid: int
    port: int
    request: bytes
    status: bytes

    async def speed(self, seconds: float) -> Speed:
        """Floods it; raises `RuntimeError` when an answer is not the one that was measured for."""
        before_s = cpu_s(self.pid)
        found: Flooded = await flooded(self.port, seconds, self.request, self.status)
        if found.wrong or not found.answers:
            raise RuntimeError(f"{found.wrong} of {found.answers} answers were not {self.status.decode()}")
        return Speed(found.answers / (cpu_s(self.pid) - before_s), found.answers / found.seconds, found.answers)


async def redirect() -> Result:
    """A hot redirect whose click is in the journal, and then in the store."""
    async with _platform() as platform:
        gateway = platform.server(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (platform.path, platform.host), b"302")
        result, floods = await _compared("redirect", gateway, platform.constant, 0.35, "its constant 302")
        findings = judged([each.answers for each in floods], await _books(platform, floods))
        paced, found = await _paced(platform)
    wrong = [finding.sentence for finding in (*findings, *found) if not finding.holds]
    return replace(
        result,
        details={**result.details, **paced, "wrong": wrong},
        others_hold=not wrong and paced["paced_p99_ms"] <= PACED_P99_MS_MAX,
    )


def judged(answers: Sequence[int], books: Books) -> Sequence[Finding]:
    """The judgements over a link that was flooded and answered so often in each flood."""
    return judge(_promised(answers), books)


def _promised(answers: Sequence[int]) -> Promised:
    """All answers count; of what was under way when a flood ended nobody knows. Whether they were bots is not asked."""
    total, unknown = sum(answers), len(answers) * CONNECTIONS * UNDER_WAY
    return Promised({Outcome.SPOOLED: total, Outcome.UNKNOWN: unknown}, [total], [unknown], 0, total + unknown)


async def _books(platform: "_Platform", floods: Sequence[Speed]) -> Books:
    promised = _promised([each.answers for each in floods])
    async with Door(platform.installation.credentials().url, platform.tenant.key) as door:
        return (await reading.settled(door, platform.tenant.links, promised)).books


async def near_cache() -> Result:
    """The same redirect for a reader who asks not to be counted: the near cache alone."""
    async with _platform() as platform:
        request = b"GET %s HTTP/1.1\r\nHost: %s\r\nDNT: 1\r\n\r\n" % (platform.path, platform.host)
        gateway = platform.server(request, b"302")
        result, _ = await _compared("near_cache", gateway, platform.constant, 0.40, "its constant 302")
        return result


async def unary() -> Result:
    """GET of a link through transcoder, access check and gRPC."""
    async with _platform() as platform:
        links = platform.installation.addresses("links")["rpc"]
        secret = json.loads((platform.installation.home / "secrets.json").read_text())
        link, tenant = platform.tenant.links[0].id, platform.tenant.name.removeprefix("tenants/")
        request = b"GET /v1/links/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n\r\n" % (
            link.encode(),
            platform.tenant.key.encode(),
        )
        gateway = platform.server(request, b"200")
        async with _served("by-hand", links, link, tenant, key=secret["internal_key"]) as (pid, port):
            by_hand = Server(pid, port, request, b"200")
            result, _ = await _compared("unary", gateway, by_hand, 0.70, "a hand-written handler with the same call")
            return result


async def _compared(
    name: str, server: Server, reference: Server, bound: float, what: str
) -> tuple[Result, Sequence[Speed]]:
    """The result, and all floods of the server, that which warmed it included."""
    warm, _ = await server.speed(WARM_S), await reference.speed(WARM_S)
    rounds = [(await reference.speed(ROUND_S), await server.speed(ROUND_S)) for _ in range(ROUNDS)]
    ratios = [ours.per_cpu_s / theirs.per_cpu_s for theirs, ours in rounds]
    result = Result(
        name=name,
        value=median([ours.per_cpu_s for _, ours in rounds]),
        unit="answers per CPU second",
        reference=what,
        reference_value=median([theirs.per_cpu_s for theirs, _ in rounds]),
        bound=bound,
        details={
            "ratios": [round(each, 3) for each in ratios],
            "answers_per_s": round(median([ours.per_s for _, ours in rounds])),
            "reference_answers_per_s": round(median([theirs.per_s for theirs, _ in rounds])),
            "rounds": ROUNDS,
            "seconds": ROUND_S,
        },
    )
    return result, [warm, *(ours for _, ours in rounds)]


async def _paced(platform: "_Platform") -> tuple[Mapping[str, float], Sequence[Finding]]:
    """Latency of hot links from the planned moment at a steady thousand a second, and what the books say of it; the reference shows what
    the generator and its machine add."""
    tenant = await scenario.prepare(platform.installation, f"paced-{secrets.token_hex(4)}", PACED_LINKS)
    await scenario.warm(platform.installation, tenant, PACED_LINKS)
    plan = draw([Stream(constant(PACED_RATE, PACED_S), 0, PACED_LINKS)], Visitors(), 1)
    targets = tuple(Target(link.host, link.path) for link in tenant.links)
    with tempfile.TemporaryDirectory() as folder:
        async with Load(Path(folder), plan, Order("127.0.0.1", platform.constant.port, plan.seed, targets)) as load:
            reference = await load.finished()
    with tempfile.TemporaryDirectory() as folder:
        ran = await scenario.run(platform.installation, tenant, plan, [], Path(folder), lambda *_: None, lambda _: None)
    paced = {
        "paced_per_s": PACED_RATE,
        "paced_p99_ms": _p99_ms(ran.loaded),
        "paced_p99_ms_max": PACED_P99_MS_MAX,
        "reference_paced_p99_ms": _p99_ms(reference),
    }
    return paced, ran.findings


def _p99_ms(loaded: Loaded) -> float:
    return round(histogram.of(loaded.records["latency_us"]).percentile_us(0.99) / 1000, 1)


@dataclass(frozen=True, slots=True)
class _Platform:
    installation: Installation
    tenant: scenario.Tenant
    """Has one link."""
    host: bytes
    path: bytes
    constant: Server

    def server(self, request: bytes, status: bytes) -> Server:
        pid = self.installation.processes()["gateway"].pid
        port = httpx.URL(self.installation.credentials().url).port
        assert pid is not None
        assert port is not None
        return Server(pid, port, request, status)


@asynccontextmanager
async def _platform() -> AsyncIterator[_Platform]:
    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        installation = Installation(Path(folder) / "home")
        await installation.up("each", port=0)
        try:
            tenant = await scenario.prepare(installation, f"bench-{secrets.token_hex(4)}", 1)
            await scenario.warm(installation, tenant)
            link = tenant.links[0]
            async with _served("constant") as (pid, port):
                request = b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (link.path.encode(), link.host.encode())
                yield _Platform(
                    installation,
                    tenant,
                    link.host.encode(),
                    link.path.encode(),
                    Server(pid, port, request, b"302"),
                )
        finally:
            await installation.down()


@asynccontextmanager
async def _served(kind: str, *arguments: str, key: str = "") -> AsyncIterator[tuple[int, int]]:
    """A reference server's pid and port."""
    (port,) = ports.draw(1)
    environment = {**os.environ, "GROUNDSWELL_INTERNAL_KEY": key}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.servers", kind, str(port), *arguments, env=environment
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(10):
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield child.pid, port
    finally:
        child.kill()
        await child.wait()
