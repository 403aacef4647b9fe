"""Bytes that no honest client sends: each is refused, and none reaches a service."""

import asyncio
import gzip
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from groundswell.api.analytics.v1.analytics_pb2 import Event
from groundswell.gateway.http import json_bodies, queries
from groundswell.gateway.settings import GatewaySettings
from tests.gateway.door import SECRET, Door, opened, pb

HEAD = f"Host: localhost\r\nAuthorization: Bearer {SECRET}\r\n".encode()
POST = b"POST /v1/shelves/3/books HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


def status_of(answer: bytes) -> int:
    """The status of a raw answer, 0 for a connection closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def post(door: Door, body: bytes, **headers: str) -> int:
    """The status of a POST of `body`."""
    given = {"authorization": f"Bearer {SECRET}", "content-type": "application/json", **headers}
    answer = await door.client.post("/v1/shelves/3/books", content=body, headers=given)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code


@pytest.mark.promise("GATEWAY-1")
async def test_bodies_that_are_too_large_or_no_json_are_refused(door: Door) -> None:
    """Sizes before and after decompression, depth, duplicate keys, media types, encodings."""
    nested = b'{"title":"a","x":' + b"[" * 70 + b"]" * 70 + b"}"
    bomb = gzip.compress(b" " * 900_000)
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (b'{"title":"' + b"a" * (1 << 20) + b'"}', {}, 413),
        (bomb, {"content-encoding": "gzip"}, 413),
        (gzip.compress(b'{"title":"a"}'), {"content-encoding": "gzip"}, 201),
        (gzip.compress(b'{"title":"a"}')[:-4], {"content-encoding": "gzip"}, 400),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (b'{"title":"a"}', {"content-encoding": "br"}, 415),
        (b'{"title":"a"}', {"content-encoding": "gzip, gzip"}, 415),
        (b'{"title":"a"}', {"content-type": "text/plain"}, 415),
        (b'{"title":"a"}', {"content-type": "application/merge-patch+json"}, 201),
        (b'{"title":"a","title":"b"}', {}, 400),
        (b'{"title":"a","editor":{"givenName":"a","givenName":"b"}}', {}, 400),
        (nested, {}, 400),
        (b'{"title":NaN}', {}, 400),
        (b'{"title":"\xff"}', {}, 400),
        (b'{"title":"\\ud800"}', {}, 400),
        (b'{"\\udfff":1}', {}, 400),
        (b'{"title":"\\ud83d\\ude00"}', {}, 201),
        (b"\xef\xbb\xbf{}", {}, 400),
        (b"{", {}, 400),
        (b'{"title":"a","pages":' + b"9" * 5000 + b"}", {}, 400),
        (b"", {}, 400),
    ]
    for body, headers, status in cases:
        assert await post(door, body, **headers) == status, (body[:60], headers)
    assert len(door.library.calls) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 65 + b'"' + b'\\"' * 500_000,
        b"[" * 65 + b'"' + b'\\"' * 500_000 + b"\\",
        b"{" + b",".join(b'"%d":0' % number for number in range(60_000)) + b',"59999":0}',
        b'{"a": 1e999}',
        b'{"events":[' + b",".join([b"{}"] * 50_000) + b"]}",
    ],
)
def test_a_body_made_to_be_slow_to_refuse_is_refused_all_the_same(body: bytes) -> None:
    """A text that does not end, one that ends in its own escape, and a key that comes again after many others: each byte is looked at
    once, or this would take hours. A number beyond any float would be infinite, and empty objects cost a hundred times their bytes."""
    with pytest.raises(json_bodies.MalformedJson):
        json_bodies.loads(body)


def test_brackets_in_texts_do_not_nest() -> None:
    deep = '"' + "[{" * 100 + '\\"]"'
    assert json_bodies.loads(f'{{"a": {deep}}}'.encode())["a"].startswith("[{")


@pytest.mark.parametrize("levels", [[], {}])
def test_a_free_value_nests_as_deep_as_every_reader_of_it_follows_and_no_deeper(levels: Any) -> None:
    """Beyond, a service could not read what the door has taken."""
    deep = levels
    for _ in range(json_bodies.FREE_DEPTH_MAX - 2):
        deep = [deep] if isinstance(levels, list) else {"a": deep}
    message = Event()
    json_bodies.parse_into(message, {"kind": "view", "properties": {"a": deep}})
    assert Event.FromString(message.SerializeToString()) == message
    json_format.MessageToDict(message)
    with pytest.raises(json_bodies.InvalidFields, match="properties: nests deeper than 30"):
        json_bodies.parse_into(Event(), {"kind": "view", "properties": {"a": [deep]}})


@pytest.mark.promise("GATEWAY-10")
async def test_targets_and_headers_have_bounds(door: Door) -> None:
    """8 KiB of path and query, 32 KiB of headers, one Host, one credential."""
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
    assert (await door.client.get("/" + "a" * 8_300)).status_code == 414
    assert (await door.get("/v1/shelves/3/books?" + "a=b&" * 2_100)).status_code == 414
    assert (await door.client.get("/abc", headers={"x-big": "a" * 33_000})).status_code == 431
    assert (await door.client.get("/abc")).status_code == 302
    assert (await door.client.get("/abc", headers={"x-big": "a" * 33_000})).status_code == 431, (
        "also when the answer is kept"
    )
    for twice in (b"Host: localhost\r\nHost: localhost\r\n", HEAD + b"Authorization: Bearer x\r\n", b""):
        assert status_of(await door.raw(b"GET /v1/shelves/3/books HTTP/1.1\r\n" + twice + b"\r\n")) == 400
    for host in (b"localhost" + b"." * 300, b"localhost:" + b"0" * 300):
        assert status_of(await door.raw(b"GET /abc HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")) == 400
    many = b"".join(b"x%d: y\r\n" % number for number in range(500))
    assert status_of(await door.raw(b"GET /abc HTTP/1.1\r\n" + HEAD + many + b"\r\n")) == 431


@pytest.mark.parametrize(
    "query",
    [
        "q=M%FCnchen",
        "q=%FF%FE&utm_source=x",
        "&".join(f"p{number}=1" for number in range(1_001)),
        "=&&;%",
        "code=b&host=c",
    ],
    ids=["latin-1", "no text at all", "1,001 parameters", "no parameters at all", "names of the request's own fields"],
)
async def test_a_visitor_is_redirected_whatever_others_have_put_behind_the_address(door: Door, query: str) -> None:
    """Mailings and advertisements do. Where parameters mean something, the same query is refused."""
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")
    answer = await door.client.get(f"/abc?{query}")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://a.example/")
    assert (await door.get(f"/v1/shelves/3/books?{query}")).status_code == 400
    unread = await door.client.get(f"/abc?{query}&nostat")
    assert (unread.status_code, unread.headers["groundswell-view"]) == (302, "skipped")


def test_where_unknown_parameters_are_ignored_the_known_ones_are_still_read() -> None:
    query = b"q=M%FCnchen&size=3&&%FC=size&size=%FC&size&page%2Dtoken=a+b"
    assert [*queries.known_pairs_of(query, {"size", "page-token"})] == [
        ("size", "3"),
        ("size", ""),
        ("page-token", "a b"),
    ]


@pytest.mark.promise("GATEWAY-10")
@pytest.mark.parametrize(
    "request_",
    [
        POST + b'Content-Length: 4\r\nContent-Length: 5\r\n\r\n{"a"}',
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1e3\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/shelves/3/books HTTP/1.1\r\nX-A : b\r\n" + HEAD + b"\r\n",
        b"GET /v1/shelves/3/books HTTP/1.1\r\nX-A: b\0c\r\n" + HEAD + b"\r\n",
        b"GET /v1/shelves/3/books HTTP/1.1\r\n" + HEAD + b" folded: x\r\n\r\n",
        b"GET /v1/sh\x7felves HTTP/1.1\r\n" + HEAD + b"\r\n",
    ],
)
async def test_requests_that_two_servers_could_read_differently_are_refused(door: Door, request_: bytes) -> None:
    """Request smuggling begins with ambiguity: two lengths, odd codings, folded lines. The connection does not survive."""
    assert status_of(await door.raw(request_)) in (0, 400, 404)
    assert not door.library.calls


@pytest.mark.promise("GATEWAY-10")
async def test_a_request_with_both_a_length_and_chunks_closes_its_connection(door: Door) -> None:
    """What follows such a request on the same connection is never read as a request."""
    chunks = b'10\r\n{"title":"abcde"}\r\n0\r\n\r\n'
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await door.raw(
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + smuggled, timeout_s=2
    )
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert not [call for call in door.library.calls if getattr(call, "code", "") == "smuggled"]


@pytest.mark.promise("GATEWAY-2")
async def test_paths_are_split_before_they_are_decoded_and_decoded_once(door: Door) -> None:
    """Traversal, escaped slashes, double escapes and NUL are text of one segment or nothing at all."""
    for path, code in (
        ("/..%2f..%2fetc", "../../etc"),
        ("/a%252fb", "a%2fb"),
        ("/%F0%9F%98%80", "😀"),
        ("/%2e%2e", ".."),
    ):
        await door.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), timeout_s=2)
        assert door.library.calls[-1].code == code
    count = len(door.library.calls)
    for path, status in (
        ("/a%00b", 404),
        ("/%ff", 400),
        ("/v1/shelves/3%2fbooks/4", 404),
        ("//", 404),
        ("/a/../b", 404),
        ("/a//b", 404),
    ):
        answer = await door.raw(f"GET {path} HTTP/1.1\r\n".encode() + HEAD + b"\r\n", timeout_s=2)
        assert status_of(answer) == status, path
    assert len(door.library.calls) == count


@pytest.mark.promise("GATEWAY-10")
async def test_line_ends_never_enter_a_header_in_either_direction(door: Door) -> None:
    """A location with a line end is percent-encoded, not split."""
    door.library.locations["split"] = pb.FollowCodeResponse(location="https://a.example/\r\nSet-Cookie: a=b\x00ü")
    answer = await door.client.get("/split")
    assert answer.headers["location"] == "https://a.example/%0D%0ASet-Cookie:%20a=b%00%C3%BC"
    assert "set-cookie" not in answer.headers


@pytest.mark.promise("GATEWAY-10")
async def test_the_api_is_served_on_known_hosts_and_codes_on_the_host_that_was_asked(door: Door) -> None:
    """Others get 421; for a short link the host is part of the question, without port and in lower case."""
    for host, status in (
        ("localhost", 200),
        ("LocalHost:8080", 200),
        ("demo.localhost", 200),
        ("127.0.0.1:1", 200),
        ("evil.example", 421),
    ):
        answer = await door.get("/v1/shelves/3/books", host=host)
        assert answer.status_code == status, host
    await door.client.get("/abc", headers={"host": "Go.Example.:8080"})
    assert door.library.calls[-1].host == "go.example"
    await door.client.get("/abc?host=other.example", headers={"host": "go.example"})
    assert door.library.calls[-1].host == "go.example"
    assert (await door.client.get("/healthz", headers={"host": "10.1.2.3"})).status_code == 200


@pytest.mark.promise("GATEWAY-10")
async def test_a_body_that_stops_is_answered_408(tmp_path: Path) -> None:
    """Slow requests end; the bound is shortened here so that the test is quick."""
    async with opened(tmp_path, GatewaySettings(drain_accept_s=0.05, body_stall_s_max=0.2)) as door:
        answer = await door.raw(POST + b"Content-Length: 20\r\n\r\n{")
    assert status_of(answer) == 408
    assert b"connection: close" in answer.lower()


@pytest.mark.promise("GATEWAY-10")
async def test_a_connection_whose_headers_are_slow_or_that_is_idle_is_closed_in_bounded_time(tmp_path: Path) -> None:
    """Goal: nobody holds a place for nothing, whatever bytes came before the silence; who is served goes on being served."""
    config = GatewaySettings(drain_accept_s=0.05, headers_s_max=1.0, idle_s_max=2.0)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    whole = head + b"\r\n"
    async with opened(tmp_path, config) as door:

        async def answers(*parts: bytes) -> bytes:
            """All that comes until the door closes the connection; each part is sent when the former was answered."""
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            received = b""
            async with asyncio.timeout(10):
                for part in parts[:-1]:
                    writer.write(part)
                    received += await reader.readuntil(b"}")
                writer.write(parts[-1])
                while chunk := await reader.read(65_536):
                    received += chunk
            writer.close()
            return received

        async def served() -> None:
            """One request after the other, on one connection, for longer than it might be idle."""
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            end_s = time.monotonic() + 2 * config.idle_s_max
            while time.monotonic() < end_s:
                writer.write(whole)
                await reader.readuntil(b"}")
            writer.close()

        slow = [answers(part) for part in (b"", b"G", b"PRI * HT", head)]
        idle = [answers(whole), answers(whole, head), answers(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
        ended, _ = await asyncio.gather(asyncio.gather(*slow, *idle), served())
        assert ended[:4] == [b""] * 4, "a slow head is closed without an answer, as granian does it"
        assert [answer.count(b"200 OK") for answer in ended[4:]] == [1, 1, 0]


@pytest.mark.promise("GATEWAY-6")
async def test_large_answers_are_compressed_for_clients_that_can(door: Door) -> None:
    """Above 1 KiB, with Vary; a client that says q=0 is believed."""
    path = "/v1/shelves/3/books?pageSize=1000&pageToken=" + "x" * 2_000
    packed = await door.get(path, **{"accept-encoding": "br, gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
    plain = await door.get(path, **{"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == packed.json()
    assert "content-encoding" not in (await door.get("/v1/shelves/3/books", **{"accept-encoding": "gzip"})).headers


async def test_pages_of_allowed_origins_may_call_and_others_may_not(tmp_path: Path) -> None:
    """CORS by allow-list: preflights and answers."""
    config = GatewaySettings(cors_origins=("https://app.example",), drain_accept_s=0.05)
    async with opened(tmp_path, config) as door:
        preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
        allowed = await door.client.options("/v1/shelves/3/books", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "POST" in allowed.headers["access-control-allow-methods"]
        answer = await door.get("/v1/shelves/3/books", origin="https://app.example")
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["vary"] == "origin"
        unasked = await door.get("/v1/shelves/3/books")
        assert unasked.headers["vary"] == "origin", "a shared cache must not give this one to a page"
        stream = await door.get("/v1/books:watch?count=1", origin="https://app.example")
        assert stream.headers["access-control-allow-origin"] == "https://app.example"
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "https://evil.example", "access-control-request-method": "POST"},
        ):
            refused = await door.client.options("/v1/shelves/3/books", headers=headers)
            assert "access-control-allow-origin" not in refused.headers


@pytest.mark.promise("GATEWAY-1")
async def test_many_connections_that_send_nothing_do_not_stop_the_others(door: Door) -> None:
    """200 idle connections, and the door answers as before."""
    idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(200)]
    assert (await door.client.get("/healthz")).status_code == 200
    for _, writer in idle:
        writer.close()
