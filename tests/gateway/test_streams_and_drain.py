"""Streams over HTTP, the console's files, and an end without a lost request."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from groundswell.gateway.settings import GatewaySettings
from tests.gateway.door import ALICE, READER, SECRET, Door, opened, pb, pb_grpc

AUTH = {"authorization": f"Bearer {SECRET}"}


@pytest.mark.promise("GATEWAY-12")
async def test_a_server_stream_leaves_as_events_or_as_json_lines(door: Door) -> None:
    """GATEWAY-12. Events carry name and id from the options; a line end in a name cannot forge a field."""
    events = await door.get("/v1/books:watch?count=2")
    assert events.headers["content-type"] == "text/event-stream"
    first, second, rest = events.text.split("\n\n")
    assert first.startswith("event: tick tock\nid: 0\ndata: {")
    assert second.startswith("event: tick tock\nid: 1\n")
    assert rest == ""
    lines = await door.get("/v1/books:watch?count=2", accept="application/x-ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert len(lines.text.splitlines()) == 2


@pytest.mark.promise("GATEWAY-12")
async def test_the_last_event_id_reaches_the_service_and_a_refused_stream_is_an_ordinary_error(door: Door) -> None:
    """GATEWAY-12. Resuming is the service's; 401, 403 and 400 are answered before a stream begins."""
    await door.get("/v1/books:watch?count=1", **{"last-event-id": "41"})
    assert door.library.calls[-1].last_event_id == "41"
    refused = await door.get("/v1/books:watch?count=-1")
    assert (refused.status_code, refused.json()["fields"][0]["field"]) == (400, "count")
    assert (await door.client.get("/v1/books:watch")).status_code == 401


@pytest.mark.promise("GATEWAY-12")
async def test_an_idle_stream_thumps(tmp_path: Path) -> None:
    """GATEWAY-12. A comment goes out while nothing happens; the interval is shortened for the test."""
    async with opened(tmp_path, GatewaySettings(drain_accept_s=0.05, heartbeat_s=0.05)) as door:
        door.library.delay_s = 0.4
        events = await door.get("/v1/books:watch?count=1")
    assert events.text.count(":thump\n\n") >= 2
    assert "data: " in events.text


@pytest.mark.promise("GATEWAY-12")
async def test_a_client_that_leaves_ends_its_stream_upstream(door: Door) -> None:
    """GATEWAY-12. Nothing is streamed for nobody."""
    async with door.client.stream("GET", "/v1/books:watch", headers=AUTH) as stream:
        async for _ in stream.aiter_bytes():
            break
        assert len(door.application.streams) == 1
    async with asyncio.timeout(5):
        while len(door.application.streams) or door.application.in_flight:
            await asyncio.sleep(0.01)


REFUSALS: dict[str, tuple[Callable[[Door], object], int, str]] = {
    "revoked": (lambda door: door.verifier.revoke(1), 401, "INVALID_CREDENTIAL"),
    "suspended": (lambda door: door.suspended.add(ALICE.tenant), 403, "TENANT_SUSPENDED"),
}
"""What ends a caller's access, and the answer from then on."""


@pytest.mark.promise("IDENTITY-5", "TENANCY-7")
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_stream_ends_within_a_second_of_its_keys_revocation_or_its_tenants_suspension(
    door: Door, refusal: str
) -> None:
    """The last event says why. Of other keys and tenants no stream ends; one that has not begun is refused as any call."""
    refuse, status, code = REFUSALS[refusal]
    door.library.delay_s = 0.0
    async with (
        door.client.stream("GET", "/v1/books:watch", headers={"x-api-key": READER}) as others,
        door.client.stream("GET", "/v1/books:watch", headers=AUTH) as stream,
    ):
        going_on = others.aiter_lines()
        await anext(going_on)
        lines = stream.aiter_lines()
        await anext(lines)
        door.library.delay_s = 60.0
        silent = asyncio.create_task(door.get("/v1/books:watch"))
        async with asyncio.timeout(5):
            while door.application.in_flight < 3:
                await asyncio.sleep(0.01)
        refuse(door)
        async with asyncio.timeout(1.0):
            rest = [line async for line in lines]
            refused = await silent
        assert rest[-3] == "event: error"
        problem = json.loads(rest[-2].removeprefix("data: "))
        assert (problem["status"], problem["code"]) == (status, code)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        await anext(going_on)


@pytest.mark.promise("IDENTITY-5", "TENANCY-7")
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_stream_of_a_service_without_a_door_ends_as_well(door: Door, refusal: str) -> None:
    refuse, _, _ = REFUSALS[refusal]
    watching = pb_grpc.LibraryServiceStub(door.channel).WatchBooks(
        pb.WatchBooksRequest(), metadata=(("authorization", f"Bearer {SECRET}"),)
    )
    await watching.read()
    refuse(door)
    async with asyncio.timeout(1.0):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _end(watching)
    assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


async def _end(watching: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    while await watching.read() is not grpc.aio.EOF:
        continue


@pytest.mark.promise("GATEWAY-14")
async def test_draining_fails_readiness_at_once_lets_requests_end_and_closes_streams(tmp_path: Path) -> None:
    """GATEWAY-14. SIGTERM: not ready, no request lost, no stream left, whether it had begun or not."""
    async with opened(tmp_path, GatewaySettings(drain_accept_s=0.2, drain_s=5)) as door:
        assert (await door.client.get("/readyz")).status_code == 200
        watching = asyncio.create_task(door.get("/v1/books:watch"))
        async with asyncio.timeout(5):
            while not len(door.application.streams):
                await asyncio.sleep(0.01)
        door.library.delay_s = 0.6
        not_begun = asyncio.create_task(door.get("/v1/books:watch"))
        slow = asyncio.create_task(door.get("/v1/shelves/3/books"))
        async with asyncio.timeout(5):
            while door.application.in_flight < 3:
                await asyncio.sleep(0.01)
        draining = asyncio.create_task(door.public.drain())
        await asyncio.sleep(0)
        async with httpx.AsyncClient(base_url=door.url) as balancer:
            probe = await balancer.get("/readyz")
            assert probe.status_code == 503
            assert probe.headers["connection"] == "close"
        async with asyncio.timeout(10):
            assert (await slow).status_code == 200
            await draining
            assert (await watching).status_code == 200
            assert (await not_begun).status_code == 503
        assert door.application.in_flight == 0


async def test_a_door_that_was_drained_is_closed_and_says_nothing_of_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Method: connections that are kept are open when it ends."""
    async with opened(tmp_path) as door:
        assert (await door.client.get("/readyz")).status_code == 200
        await door.public.drain()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*door.url.removeprefix("http://").split(":"))
    await asyncio.sleep(0)
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]


async def test_without_a_build_the_front_page_says_how_to_make_one(tmp_path: Path) -> None:
    """A stranger who opens the address is told what to do next."""
    async with opened(tmp_path, GatewaySettings(console=str(tmp_path / "none"), drain_accept_s=0.05)) as door:
        page = await door.client.get("/")
    assert page.status_code == 200
    assert "make console" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_the_console_is_served_with_a_strict_policy_and_immutable_assets(tmp_path: Path) -> None:
    """Files are found by their exact path; nothing outside the folder can be."""
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html><title>console</title>")
    (dist / "assets" / "index-abc123.js").write_text("console.log(1)")
    (tmp_path / "secret.txt").write_text("secret")
    (dist / "link.txt").symlink_to(tmp_path / "secret.txt")
    async with opened(tmp_path, GatewaySettings(console=str(dist), drain_accept_s=0.05)) as door:
        page = await door.client.get("/")
        assert "console" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "connect-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-cache"
        again = await door.client.get("/", headers={"if-none-match": page.headers["etag"]})
        assert again.status_code == 304
        script = await door.client.get("/assets/index-abc123.js")
        assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert script.headers["content-type"].startswith("text/javascript")
        assert (await door.client.post("/")).status_code == 405
        assert (await door.client.get("/link.txt")).status_code == 404
        for path in (b"/assets/../../secret.txt", b"/assets/..%2f..%2fsecret.txt", b"/..%2fsecret.txt"):
            assert b"secret\n" not in await door.raw(
                b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", timeout_s=2
            )
        door.library.locations["assets"] = pb.FollowCodeResponse(location="https://a.example/")
        assert (await door.client.get("/assets")).status_code == 302
