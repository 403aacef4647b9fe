"""How many visitors a door takes at once.

Goal: visitors who keep their connections open, as every browser does, keep nobody out. Method: real sockets that their visitors never
close, at a door with 40 places from which nothing else frees one; and visitors of whom nobody asks to go, as the control.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from groundswell.gateway.http.places import Stay
from groundswell.gateway.settings import GatewaySettings
from tests.gateway.door import SECRET, Door, opened, pb
from tests.gateway.test_crowding import Connection, connected, holding
from tests.gateway.waiting import until

PLACES = 40
VISITORS = 60
CODE = b"GET /abc HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNKNOWN = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BOOKS = f"GET /v1/shelves/3/books HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()
WATCH = BOOKS.replace(b"shelves/3/books", b"books:watch")
LONG_S = 60.0
BUSY = b"Too many requests are under way at once."


def settings(**changes: object) -> GatewaySettings:
    return GatewaySettings(drain_accept_s=0.05, headers_s_max=600.0, idle_s_max=600.0, **changes)  # type: ignore[arg-type]  # a test's own shorthand


async def asked(connection: Connection, request: bytes) -> bytes:
    """The head of the answer; the connection is left as it is."""
    reader, writer = connection
    writer.write(request)
    async with asyncio.timeout(LONG_S):
        return (await reader.readuntil(b"\r\n\r\n")).lower()


async def visited(door: Door, request: bytes) -> tuple[Connection, bytes]:
    (made,) = await connected(door, 1)
    return made, await asked(made, request)


@pytest.mark.parametrize("request_", [pytest.param(CODE, id="hot"), pytest.param(UNKNOWN, id="unknown code")])
async def test_more_visitors_than_there_are_places_are_answered_though_all_keep_their_connections(
    tmp_path: Path, request_: bytes
) -> None:
    async with opened(tmp_path, settings(connections_max=PLACES)) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
        visits = await asyncio.gather(*(visited(door, request_) for _ in range(VISITORS)))
        closing = [b"connection: close" in head for _, head in visits]
        assert all(head.startswith((b"http/1.1 302", b"http/1.1 404")) for _, head in visits)
        assert PLACES // 4 < closing.count(False) <= PLACES // 2, "while there is room, nobody is asked to go"
        for (_, writer), _ in visits:
            writer.close()


async def test_without_being_asked_to_go_as_many_as_there_are_places_keep_the_next_one_waiting(tmp_path: Path) -> None:
    """The control: who asks for something else than a redirect may keep its connection."""
    async with opened(tmp_path, settings(connections_max=PLACES)) as door:
        await door.client.aclose()
        held = [await visited(door, HEALTH) for _ in range(PLACES)]
        await holding(PLACES)
        next_ = asyncio.create_task(visited(door, CODE))
        await asyncio.wait({next_}, timeout=0.5)
        assert not next_.done()
        for (_, writer), head in held:
            assert b"connection: close" not in head
            writer.close()
        (_, writer), head = await next_
        assert head.startswith(b"http/1.1 404")
        writer.close()


@pytest.mark.parametrize("request_", [pytest.param(CODE, id="hot"), pytest.param(UNKNOWN, id="unknown code")])
async def test_a_connection_that_asks_more_often_than_there_are_places_is_one_connection(
    tmp_path: Path, request_: bytes
) -> None:
    """A proxy's, or a load generator's: it carries thousands of visitors within a second."""
    async with opened(tmp_path, settings(connections_max=PLACES)) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
        (kept,) = await connected(door, 1)
        assert not [head for _ in range(2 * PLACES) if b"connection: close" in (head := await asked(kept, request_))]
        kept[1].close()


async def test_visitors_keep_their_connections_again_once_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(connections_max=PLACES)) as door:
        held = await connected(door, PLACES - 2)
        await holding(PLACES - 1)
        (_, writer), head = await visited(door, CODE)
        assert b"connection: close" in head
        for _, each in (*held, (None, writer)):
            each.close()
        await until(lambda: door.application.stay.left > 0)
        (_, writer), head = await visited(door, CODE)
        assert b"connection: close" not in head
        writer.close()


async def test_beyond_the_requests_under_way_the_next_is_told_to_come_again_but_not_what_is_in_memory_or_health(
    tmp_path: Path,
) -> None:
    """Streams of HTTP/2 count too, as they are requests like any other."""
    async with opened(tmp_path, settings(requests_max=3)) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
        assert (await door.client.get("/abc")).status_code == 302
        door.library.delay_s = LONG_S
        waiting = await connected(door, 3)
        for _, writer in waiting:
            writer.write(BOOKS)
        await until(lambda: door.application.in_flight == 3)
        refused = await door.get("/v1/shelves/3/books")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (refused.headers["content-type"], BUSY in refused.content) == ("application/problem+json", True)
        assert (await door.client.get("/abc")).status_code == 302
        assert (await door.client.get("/healthz")).status_code == 200
        assert (await door.client.get("/readyz")).status_code == 200
        for _, writer in waiting:
            writer.close()


IN_MEMORY = {
    "a shared link's tracking": ("GET", "/abc?fbclid=1", {}, 302),
    "a page of another origin": ("GET", "/abc", {"origin": "https://a.example"}, 302),
    "a cache that looks again": ("GET", "/abc", {"if-none-match": "*"}, 302),
    "a look ahead": ("HEAD", "/abc", {}, 302),
    "a page": ("GET", "/page?fbclid=1", {}, 200),
    "the document": ("GET", "/openapi.json", {}, 200),
    "a preflight": ("OPTIONS", "/v1/shelves/3/books", {}, 204),
    "nothing that there is": ("GET", "/v1/nothing", {}, 404),
}


async def test_whatever_is_in_memory_is_given_however_many_wait_and_however_it_is_asked_for(tmp_path: Path) -> None:
    """A viral link is shared with parameters, while cold links wait for their service. Controls: those, and what has a body to read."""
    async with opened(tmp_path, settings(requests_max=3)) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
        door.library.locations["page"] = pb.FollowCodeResponse(location="https://a.example/", preview=True)
        for path in ("/abc", "/page"):
            await door.client.get(path)
        door.library.delay_s = LONG_S
        waiting = await connected(door, 3)
        for number, (_, writer) in enumerate(waiting):
            writer.write(CODE.replace(b"abc", b"cold%d" % number))
        await until(lambda: door.application.in_flight == 3)
        asked_for = 2 + 3
        await until(lambda: len(door.library.calls) == asked_for)
        answers = {
            name: (await door.client.request(method, path, headers=headers)).status_code
            for name, (method, path, headers, _) in IN_MEMORY.items()
        }
        assert answers == {name: status for name, (*_, status) in IN_MEMORY.items()}
        for refused in (
            await door.client.get("/cold0"),
            await door.client.get("/cold9?fbclid=1"),
            await door.client.post("/v1/shelves/3/books", json={"title": "a"}),
        ):
            assert (refused.status_code, BUSY in refused.content) == (503, True)
        assert len(door.library.calls) == asked_for
        for _, writer in waiting:
            writer.close()


def test_while_connections_can_not_be_looked_at_nobodys_stays() -> None:
    """Such as when no descriptor is left to look with. The control is the next look."""
    stay, known, new = Stay(PLACES), ("192.0.2.1", "1"), ("192.0.2.1", "2")
    assert stay.of(known)
    stay.lose_sight()
    assert not stay.of(known)
    assert not stay.of(new)
    stay.look(frozenset({known}))
    assert stay.of(known)
    assert stay.of(new)


async def test_half_of_the_requests_under_way_may_be_streams_so_that_watchers_keep_no_caller_out(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, settings(requests_max=4)) as door:
        watching = [await visited(door, WATCH) for _ in range(2)]
        assert all(head.startswith(b"http/1.1 200") for _, head in watching)
        refused = await door.get("/v1/books:watch")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert b"Too many streams are open." in refused.content
        assert (await door.get("/v1/shelves/3/books")).status_code == 200
        (_, writer), _ = watching.pop()
        writer.close()
        await until(lambda: len(door.application.streams) == 1)
        assert (await door.get("/v1/books:watch?count=1")).status_code == 200
        for (_, writer), _ in watching:
            writer.close()


async def test_streams_that_wait_for_their_first_answer_are_streams_too(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(requests_max=4)) as door:
        door.library.delay_s = LONG_S
        waiting = await connected(door, 2)
        for _, writer in waiting:
            writer.write(WATCH)
        await until(lambda: door.application.in_flight == 2)
        refused = await door.get("/v1/books:watch")
        assert b"Too many streams are open." in refused.content
        for _, writer in waiting:
            writer.close()


async def test_connections_that_ask_before_and_after_a_look_are_counted_once(tmp_path: Path) -> None:
    """As many as may stay, all busy."""
    async with opened(tmp_path, settings(connections_max=PLACES)) as door:
        door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
        await door.client.aclose()
        kept = await connected(door, PLACES // 2)
        first = [await asked(each, CODE) for each in kept]
        await holding(PLACES // 2)
        again = [await asked(each, CODE) for each in kept]
        assert not [head for head in first + again if b"connection: close" in head]
        for _, writer in kept:
            writer.close()


def test_the_limit_of_descriptors_is_raised_and_bounds_the_places_with_a_reserve_kept() -> None:
    """In a process of its own, since a hard limit that is lowered stays so."""
    program = """
import resource
from groundswell.gateway.http.descriptors import room
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))
print(room(100), resource.getrlimit(resource.RLIMIT_NOFILE)[0], room(16384), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
print(room(16384))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "612", "1536", "2048", "128"]
    assert "raise the limit of open files (ulimit -n), which is 2048" in done.stderr
