"""Requests through the door whose service is away, comes back, or is lost before it answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from groundswell.gateway.service.patience import AGAIN_S, PATIENCE_S
from groundswell.kernel import access, errors
from tests.gateway.door import SECRET, Door, check, opened
from tests.gateway.waiting import until
from tests.gateway.wire import Wire


def create(door: Door, title: str, **headers: str) -> "asyncio.Task[httpx.Response]":
    """A request that changes something; it has an id only when `headers` give one."""
    headers = {"authorization": f"Bearer {SECRET}", **headers}
    return asyncio.create_task(door.client.post("/v1/shelves/3/books", json={"title": title}, headers=headers))


def titles(door: Door) -> list[str]:
    return [each.book.title for each in door.library.calls]


async def test_a_request_that_comes_while_its_service_starts_again_waits_and_is_made_once(door: Door) -> None:
    """Without an id: nothing but that nobody was reached allows a second try. It is longer away than a call itself tries again."""
    assert (await create(door, "first")).status_code == 201
    await door.service.stop()
    waiting = create(door, "second")
    await asyncio.sleep(10 * AGAIN_S)
    assert not waiting.done()
    await door.service.start()
    assert (await waiting).status_code == 201
    assert titles(door) == ["first", "second"]


async def test_a_service_that_stays_away_is_told_as_unavailable_after_a_bounded_wait(door: Door) -> None:
    await door.service.stop()
    async with asyncio.timeout(PATIENCE_S + 5):
        refused = await create(door, "first")
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert refused.json()["type"].endswith("/errors/unavailable")
    assert refused.headers["retry-after"] == "1"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
async def behind(tmp_path: Path, wire: Wire) -> AsyncIterator[Door]:
    """A door whose service is at the other end of a wire."""
    async with opened(tmp_path, wire=wire) as door:
        yield door


async def test_what_may_have_been_done_is_not_done_again(behind: Door, wire: Wire) -> None:
    """The answer is lost on its way: without an id of the request nobody knows what a second one would do."""
    behind.library.delay_s = 0.5
    calling = create(behind, "first")
    await until(lambda: bool(behind.library.calls))
    wire.cut()
    assert (await calling).status_code == 503
    await asyncio.sleep(10 * AGAIN_S)
    assert titles(behind) == ["first"]


@pytest.mark.promise("GATEWAY-11")
async def test_what_names_itself_or_only_reads_is_asked_again(behind: Door, wire: Wire) -> None:
    """A key makes the second request the same one to the service; both tries carry it."""
    behind.library.delay_s = 0.5
    calling = create(behind, "first", **{"idempotency-key": "abc"})
    await until(lambda: bool(behind.library.calls))
    wire.cut()
    assert (await calling).status_code == 201
    assert titles(behind) == ["first", "first"]
    one, two = behind.library.calls
    assert one.request_id == two.request_id != ""
    reading = asyncio.create_task(behind.get("/v1/shelves/3/books"))
    await until(lambda: len(behind.library.calls) == 3)
    wire.cut()
    assert (await reading).status_code == 200
    assert len(behind.library.calls) == 4


async def test_a_credential_is_asked_for_again_while_nobody_can_check_it(tmp_path: Path) -> None:
    """Identity starts again, and a key comes that was not checked lately."""
    asked = 0

    async def checked(secret: str) -> access.Credential:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise errors.Unreachable("Identity is away.")
        return await check(secret)

    async with opened(tmp_path, check=checked) as door:
        assert (await door.get("/v1/shelves/3/books")).status_code == 200
    assert asked == 4
