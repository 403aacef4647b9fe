"""Known links redirect while any one part of the platform is away, also when processes die meanwhile; afterwards every total is exact.

An outage takes `OUTAGE_S` seconds, 8 unless the environment says otherwise; `make test-outages` is the long form.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from groundswell.analytics.service.live import STILL_MS
from groundswell.engines import ports
from groundswell.kernel.access import CHECK_KEPT_S
from loadtests import scenario
from loadtests.arrivals import Stream, Visitors, constant, draw
from loadtests.generator.log import PROMISED, Outcome
from loadtests.platform.api import Door, Link, asking
from loadtests.platform.installation import Installation
from loadtests.scenario import Ran, Tenant

pytestmark = pytest.mark.alone

OUTAGE_S = float(os.environ.get("OUTAGE_S", "8"))
QUIET_S = 3.0
"""Load before and after an outage."""
BACK_S_MAX = 20.0
STARTED_S_MAX = 10.0
"""A process that is killed while an engine is away is back within this."""
RETURN_S = 5.0
"""What an engine takes to return, about."""
IN_FLIGHT_S = 1.0
"""Visits that were due so shortly before a kill may have died with it."""
REFUSED_S_MAX = CHECK_KEPT_S / 2
"""Within this a revoked key is refused, or not because of its revocation: what was remembered of it would still be good."""
REVOCATIONS_MAX = 5
HELD_S_MAX = 1.0
"""No old answer leaves later than this after a change was answered, or after the moment that it names."""
WATCHED_S = 0.4
"""Old answers are looked for for so long after that."""
KEPT_TRIES_MAX = 100
CONTROLS_MAX = 5
"""A link that is not changed while the door would still keep its answer for a second shows nothing, so another one is."""
MOMENT = timedelta(seconds=0.5)
RATE, LINKS = 200.0, 20
SUCCESS_MIN = 0.999


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One platform for all outages: what one leaves behind must not trouble the next."""
    installation = Installation(tmp_path_factory.mktemp("outages") / "home")
    asyncio.run(installation.up("each", port=0))
    yield installation
    asyncio.run(installation.down())


async def killed(platform: Installation, name: str) -> None:
    await asyncio.sleep(QUIET_S)
    pid = platform.signal(name, signal.SIGKILL)
    await platform.ready(name, BACK_S_MAX, other_than=pid)


async def loaded(platform: Installation, tenant: Tenant, seconds: float, folder: Path) -> Ran:
    plan = draw([Stream(constant(RATE, seconds), 0, LINKS)], Visitors(), 1)
    return await scenario.run(platform, tenant, plan, [], folder, lambda *_: None, print)


async def test_whoever_reads_the_state_hears_where_postgresql_listens_and_not_its_password(
    platform: Installation,
) -> None:
    host, _, port = platform.addresses("postgres")["sql"].partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    password = (platform.home / "engines" / "postgres" / "password").read_text()
    assert password not in (platform.home / "state.json").read_text()


@pytest.mark.promise("TENANCY-7")
async def test_within_a_second_of_a_suspension_nothing_of_the_tenant_is_served_until_it_is_resumed(
    platform: Installation,
) -> None:
    """Visitors of its hot link get 404 that no cache may keep, its key 403, its live page an end; the resumption brings all back."""
    tenant = await scenario.prepare(platform, "suspended", 1)
    await scenario.warm(platform, tenant)
    credentials, link = platform.credentials(), tenant.links[0]
    async with httpx.AsyncClient(base_url=credentials.url, trust_env=False) as client:

        async def seen() -> tuple[int, int]:
            visit = await client.get(link.path, headers={"Host": link.host})
            if visit.status_code == 404:
                assert visit.headers["cache-control"] == "no-store"
            call = await client.get("/v1/links", headers={"Authorization": f"Bearer {tenant.key}"})
            if call.status_code == 403:
                assert call.json()["type"].endswith("/tenant-suspended")
            return visit.status_code, call.status_code

        async def change(verb: str, after: tuple[int, int]) -> None:
            assert await seen() != after
            staff = {"Authorization": f"Bearer {credentials.platform_key}"}
            (await client.post(f"/v1/{tenant.name}:{verb}", headers=staff, json={})).raise_for_status()
            async with asyncio.timeout(1.0):
                while await seen() != after:
                    await asyncio.sleep(0.01)
            assert {await seen() for _ in range(20)} == {after}

        headers = {"Authorization": f"Bearer {tenant.key}"}
        async with client.stream("GET", "/v1/metrics:watch", headers=headers) as page:
            lines = page.aiter_lines()
            await anext(lines)
            await change("suspend", (404, 403))
            async with asyncio.timeout(1.0):
                assert "event: error" in [line async for line in lines]
        await change("resume", (302, 200))


@pytest.mark.promise("GATEWAY-11")
async def test_who_asks_again_for_what_a_crash_kept_from_him_is_given_the_same_to_the_byte(
    platform: Installation,
) -> None:
    """Goal: an effect whose answer nobody heard happens once. Method: links dies between its commit and its answer; whatever the caller is
    told then, he asks again under the same key, until he is told of a link."""
    tenant = await scenario.prepare(platform, "crash", 1)
    process, url = platform.holder("links"), platform.credentials().url
    pid = (await platform.ready(process, BACK_S_MAX)).pid or 0
    headers = {"Authorization": f"Bearer {tenant.key}", "Idempotency-Key": "unheard-1"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:

        async def asked() -> httpx.Response:
            return await client.post("/v1/links", json={"destination": "https://shop.example/unheard"})

        platform.arm("postgres.after_answer=kill")
        told = [await asked()]
        await platform.ready(process, BACK_S_MAX, other_than=pid)
        async with asyncio.timeout(BACK_S_MAX):
            while len(told) < 3 or told[-1].is_error:
                assert told[-1].status_code in {201, 503, 504}, told[-1].text
                await asyncio.sleep(0.1)
                told.append(await asked())
        answers = {answer.content for answer in told if not answer.is_error}
        listed = (await client.get("/v1/links")).json()["links"]
    assert len(answers) == 1
    assert [each["name"] for each in listed if each["destination"].endswith("/unheard")] == [told[-1].json()["name"]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a visitor was told, and when he asked: seconds after the change held, or was to."""

    at_s: float
    status: int
    location: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked of a link, and what its visitors are told once it holds."""

    fields: dict[str, object]
    status: int
    location: str = ""
    moment: datetime | None = None


def changes() -> list[Change]:
    """Each kind of change that a near cache could be behind with."""
    moment = datetime.now(UTC) + MOMENT
    ahead = datetime.now(UTC) + timedelta(days=1)
    return [
        Change({"destination": "https://shop.example/new"}, 302, "https://shop.example/new"),
        Change({"disabled": True}, 410),
        Change({"expireTime": moment.isoformat()}, 410, moment=moment),
        Change({"validSince": ahead.isoformat()}, 404),
        Change({"maxVisits": 1}, 410),
        Change({"suspicious": True}, 200),
        Change({"redirectStatus": 308, "destination": "https://shop.example/308"}, 308, "https://shop.example/308"),
    ]


@pytest.mark.promise("GATEWAY-7", "LINKS-9")
async def test_a_second_after_a_change_the_door_gives_no_answer_from_before_it_although_it_had_kept_one(
    platform: Installation,
) -> None:
    """Goal: the news goes from the outbox of links over the log into the door's memory, which keeps answers for five times as long. Method:
    one link for each kind of change, asked all the time; at the end one change is taken back."""
    wanted = changes()
    tenant = await scenario.prepare(platform, "changed", len(wanted) + 1)
    await scenario.warm(platform, tenant)
    async with httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client:
        *links, deleted = tenant.links
        told = await asyncio.gather(
            *(changed(client, tenant, *each) for each in zip(links, wanted, strict=True)),
            changed(client, tenant, deleted, None),
        )
        for change, seen in zip([*wanted, None], told, strict=True):
            assert not late(seen, change), (change, late(seen, change))
            assert not any(each.kept and each.status in (404, 410) for each in seen), "an end is never kept"
        disabled, enabled = links[1], Change({"disabled": False}, 302)
        assert not late(await changed(client, tenant, disabled, enabled, kept=False), enabled)


@pytest.mark.promise("GATEWAY-7", "LINKS-9")
async def test_a_door_that_does_not_hear_of_changes_and_trusts_its_memory_would_give_old_answers(
    platform: Installation,
) -> None:
    """The control: with its feed led to a port where no broker is, and no bound on how far behind it may be, the same test fails."""
    tenant = await scenario.prepare(platform, "unheard", CONTROLS_MAX)
    await scenario.warm(platform, tenant)
    change = changes()[0]
    async with deaf(platform), httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client:
        for link in tenant.links:
            if old := late(await changed(client, tenant, link, change), change):
                assert all(each.kept for each in old)
                return
    pytest.fail("no old answer although the door heard of no change")


@asynccontextmanager
async def deaf(platform: Installation) -> AsyncIterator[None]:
    """The door hears nothing of the log, and does not mind."""
    nowhere = f"127.0.0.1:{ports.draw(1)[0]}"
    await platform.restart("gateway", {"KAFKA_BOOTSTRAP_SERVERS": nowhere, "GATEWAY_FEED_LAG_S_MAX": "inf"})
    try:
        yield
    finally:
        await platform.restart("gateway", {"KAFKA_BOOTSTRAP_SERVERS": "", "GATEWAY_FEED_LAG_S_MAX": ""})


def late(seen: list[Seen], change: Change | None) -> list[Seen]:
    """What was told of old although the change, a deletion if None, had to hold."""
    status, location = (404, "") if change is None else (change.status, change.location)
    assert seen[-1].at_s > HELD_S_MAX, "nobody looked"
    after = [each for each in seen if each.at_s > HELD_S_MAX]
    return [each for each in after if each.status != status or (location and each.location != location)]


async def changed(
    client: httpx.AsyncClient, tenant: Tenant, link: Link, change: Change | None, *, kept: bool = True
) -> list[Seen]:
    """Changes the link, or deletes it, once the door gives its answer from memory if it is to be `kept`; what its visitors are told from
    then on."""

    async def visit(held_s: float) -> Seen:
        asked_s = time.monotonic()
        told = await client.get(link.path, headers={"Host": link.host, "DNT": "1"})
        hit = told.headers.get("cache-status") == "groundswell; hit"
        return Seen(asked_s - held_s, told.status_code, told.headers.get("location", ""), hit)

    tries = 0
    while kept and not (await visit(0.0)).kept:
        tries += 1
        assert tries < KEPT_TRIES_MAX, "the door keeps no answer"
    path, owner = f"/v1/links/{link.id}", asking(tenant.key)
    asked = (
        client.delete(path, headers=owner) if change is None else client.patch(path, headers=owner, json=change.fields)
    )
    (await asked).raise_for_status()
    moment = change.moment if change is not None else None
    ahead_s = max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment is not None else 0.0
    held_s = time.monotonic() + ahead_s
    seen = [await visit(held_s)]
    while seen[-1].at_s < HELD_S_MAX + WATCHED_S:
        await asyncio.sleep(0.02)
        seen.append(await visit(held_s))
    return seen


@pytest.mark.promise("IDENTITY-5")
async def test_a_revoked_key_is_refused_by_a_door_that_remembers_its_check_and_ends_its_open_stream(
    platform: Installation,
) -> None:
    """Goal: the news goes from identity's outbox over the log into the door's memory, which nobody else would tell. Method: identity says
    whether it was asked meanwhile; a door that the log had left behind asks, which shows nothing, so that another key is revoked."""
    tenant = await scenario.prepare(platform, "revoked", 1)
    async with httpx.AsyncClient(base_url=platform.credentials().url, trust_env=False) as client:
        for _ in range(REVOCATIONS_MAX):
            if await refused_without_asking(platform, client, asking(tenant.key)):
                return
    pytest.fail("each time the door asked identity, whatever it had heard")


async def refused_without_asking(platform: Installation, client: httpx.AsyncClient, owner: dict[str, str]) -> bool:
    """Makes a key, revokes it while the door remembers it, and waits for its refusal and for the end of its stream; whether the door knew
    by itself."""
    asked = {"apiKey": {"displayName": "taken back", "scopes": ["*"]}}
    made = (await client.post("/v1/apiKeys", headers=owner, json=asked)).raise_for_status().json()
    holder = asking(made["secret"])

    async def status() -> int:
        return (await client.get("/v1/links", headers=holder)).status_code

    async with client.stream("GET", "/v1/metrics:watch", headers=holder) as page:
        lines = page.aiter_lines()
        await anext(lines)
        checks = -1
        while checks != (checks := await checks_of_keys(platform)):
            assert await status() == 200
        (await client.delete(f"/v1/{made['apiKey']['name']}", headers=owner)).raise_for_status()
        began_s = time.monotonic()
        async with asyncio.timeout(REFUSED_S_MAX):
            while await status() != 401:
                await asyncio.sleep(0.01)
            print(f"refused {time.monotonic() - began_s:.3f} s after its revocation was answered")
            assert "event: error" in [line async for line in lines]
            print(f"its stream ended after {time.monotonic() - began_s:.3f} s")
    assert {await status() for _ in range(20)} == {401}
    return checks == await checks_of_keys(platform)


async def checks_of_keys(platform: Installation) -> int:
    """How often identity was asked who holds a key."""
    async with httpx.AsyncClient(trust_env=False) as client:
        told = (await client.get(f"http://{platform.addresses('identity')['ops']}/metrics")).text
    found = re.findall(r"^groundswell_rpc_handled_total\{.*VerifyApiKey.*\} (\S+)$", told, re.MULTILINE)
    return sum(int(float(each)) for each in found)


@pytest.mark.promise("LINKS-4", "LINKS-5")
async def test_known_links_redirect_while_links_is_killed_and_all_totals_are_exact_afterwards(
    platform: Installation, tmp_path: Path
) -> None:
    """Goal: 99.9 % of redirects. Method: an even load on known links."""
    tenant = await scenario.prepare(platform, "outage-links", LINKS)
    await scenario.warm(platform, tenant)
    seconds = QUIET_S * 2 + OUTAGE_S + 4
    ran, _ = await asyncio.gather(loaded(platform, tenant, seconds, tmp_path), killed(platform, "links"))
    assert_exact(ran)
    assert_served(ran, 0.0, seconds)


@dataclass(frozen=True, slots=True)
class Killed:
    """When those who serve a redirect were killed, and when they were back (monotonic)."""

    at_s: float
    back_s: float


async def away_twice(platform: Installation, engine: str) -> Killed:
    """The engine goes and returns, and goes again; what serves a redirect is killed while it is away, and sees it return."""
    await asyncio.sleep(QUIET_S)
    await platform.stop(engine)
    await asyncio.sleep(OUTAGE_S)
    await platform.start(engine)
    await asyncio.sleep(QUIET_S)
    await platform.stop(engine)
    at_s = time.monotonic()
    pids = {name: platform.signal(name, signal.SIGKILL) for name in ("gateway", "links")}
    for name, pid in pids.items():
        await platform.ready(name, STARTED_S_MAX, other_than=pid)
    back_s = time.monotonic()
    await asyncio.sleep(OUTAGE_S / 2)
    await platform.start(engine)
    return Killed(at_s, back_s)


@pytest.mark.promise("LINKS-4", "LINKS-5")
@pytest.mark.parametrize("engine", ["valkey", "postgres", "kafka"])
async def test_known_links_redirect_while_an_engine_is_away_also_from_processes_that_start_meanwhile_and_all_totals_are_exact(
    platform: Installation, tmp_path: Path, engine: str
) -> None:
    """Goal: 99.9 % of redirects through the outage and the return, and no process waits for the engine to start. Method: an even load on
    known links; the engine is stopped (Valkey comes back empty)."""
    tenant = await scenario.prepare(platform, f"outage-{engine}", LINKS)
    await scenario.warm(platform, tenant)
    seconds = QUIET_S * 3 + OUTAGE_S * 1.5 + STARTED_S_MAX + 2 * RETURN_S
    ran, killed = await asyncio.gather(loaded(platform, tenant, seconds, tmp_path), away_twice(platform, engine))
    assert_exact(ran)
    assert_served(ran, 0.0, killed.at_s - IN_FLIGHT_S - ran.loaded.started_s)
    assert_served(ran, killed.back_s - ran.loaded.started_s, seconds)


@pytest.mark.promise("ANALYTICS-8")
async def test_while_kafka_is_away_the_age_on_the_live_page_grows_and_falls_upon_its_return(
    platform: Installation,
) -> None:
    """Goal: numbers that stand still do not look fresh. Method: nobody clicks, so nothing but the log's absence can show."""
    tenant = await scenario.prepare(platform, "standstill", 1)
    async with Door(platform.credentials().url, tenant.key) as door:
        await until_age(door, below_ms=STILL_MS)
        await platform.stop("kafka")
        await until_age(door, above_ms=2 * STILL_MS)
        await platform.start("kafka")
        await until_age(door, below_ms=STILL_MS)


async def until_age(door: Door, above_ms: int = -1, below_ms: int = sys.maxsize) -> None:
    async with asyncio.timeout(30):
        while not above_ms < (await door.look()).freshness_ms < below_ms:
            await asyncio.sleep(0.2)


def assert_exact(ran: Ran) -> None:
    """All numbers are equal, and every visit that was planned was made."""
    assert not [finding.sentence for finding in ran.findings if not finding.holds]
    assert len(ran.loaded.records) == len(ran.loaded.plan)


def assert_served(ran: Ran, from_s: float, to_s: float) -> None:
    """99.9 % of the visits that were due in between were answered as counted or spooled."""
    due_s = ran.loaded.plan.arrivals["at_us"][ran.loaded.records["arrival"]] / 1e6
    outcomes = ran.loaded.records["outcome"][(from_s <= due_s) & (due_s < to_s)]
    served = int(np.isin(outcomes, [int(outcome) for outcome in PROMISED]).sum())
    told = {Outcome(int(value)).name: int((outcomes == value).sum()) for value in np.unique(outcomes)}
    assert len(outcomes) > 0
    assert served >= SUCCESS_MIN * len(outcomes), told
