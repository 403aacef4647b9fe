"""A proto that no code knows, through the door: every HTTP shape of its methods."""

from typing import Any

import pytest

from tests.gateway.door import SECRET, Door

AUTH = {"authorization": f"Bearer {SECRET}"}


async def call(door: Door, method: str, path: str, **more: Any) -> Any:
    """A request with Alice's key."""
    headers = AUTH | more.pop("headers", {})
    return await door.client.request(method, path, headers=headers, **more)


@pytest.mark.promise("GATEWAY-1")
async def test_post_with_a_body_field_fills_path_and_body_and_answers_201_with_a_location(door: Door) -> None:
    """GATEWAY-1. `body: "book"`, a path variable, and `created`."""
    sent: dict[str, Any] = {
        "title": "Momo",
        "genre": "NOVEL",
        "pages": "304",
        "authors": [{"familyName": "Ende"}],
        "cover": "AQID",
        "loan": "2s",
    }
    answer = await call(door, "POST", "/v1/shelves/3/books", json=sent)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/shelves/3/books/1"
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.json()
    authors = sent.pop("authors")
    assert {name: shown[name] for name in sent} == sent
    assert (shown["name"], shown["authors"]) == ("shelves/3/books/1", [{"givenName": "", **authors[0]}])
    request = door.library.calls[-1]
    assert (request.parent, request.book.title, request.book.cover) == ("shelves/3", "Momo", b"\1\2\3")


@pytest.mark.promise("GATEWAY-1")
async def test_names_of_fields_may_be_camel_or_snake_and_numbers_text_or_number(door: Door) -> None:
    """GATEWAY-1. Protobuf's JSON mapping, both ways to write it."""
    for body in (
        {"title": "a", "publish_time": "2026-01-01T00:00:00Z", "pages": 7},
        {"title": "a", "publishTime": "2026-01-01T00:00:00Z", "pages": "7", "genre": 1},
    ):
        answer = await call(door, "POST", "/v1/shelves/3/books", json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["pages"] == "7"
        assert answer.json()["publishTime"] == "2026-01-01T00:00:00Z"


@pytest.mark.promise("GATEWAY-1")
async def test_every_kind_of_field_is_a_query_parameter(door: Door) -> None:
    """GATEWAY-1. Nested, repeated, enums by name and number, times, durations, masks, wrappers, bytes."""
    query = (
        "pageSize=5&page_token=t&filter.author.familyName=Ende&filter.genres=NOVEL&filter.genres=2&publishedAfter=2026-01-02T03:04:05Z"
        "&maxLoan=3.5s&readMask=title,authors&lent=false&pageCounts=1&pageCounts=2&coverPrefix=AQI&price=2.5"
    )
    answer = await call(door, "GET", f"/v1/shelves/3/books?{query}")
    assert answer.status_code == 200, answer.text
    echo = door.library.calls[-1]
    assert (echo.parent, echo.page_size, echo.page_token, echo.price) == ("shelves/3", 5, "t", 2.5)
    assert echo.filter.author.family_name == "Ende"
    assert list(echo.filter.genres) == [1, 2]
    assert echo.published_after.seconds == 1767323045
    assert echo.max_loan.ToMilliseconds() == 3500
    assert list(echo.read_mask.paths) == ["title", "authors"]
    assert echo.HasField("lent")
    assert not echo.lent.value
    assert list(echo.page_counts) == [1, 2]
    assert echo.cover_prefix == b"\1\2"


@pytest.mark.promise("GATEWAY-1")
async def test_additional_bindings_verbs_response_bodies_and_raw_bytes(door: Door) -> None:
    """GATEWAY-1. The other shapes: additional_bindings, `:verb`, `response_body`, HttpBody both ways, `**`, custom, DELETE."""
    assert (await call(door, "GET", "/v1/books/9")).json()["name"] == "9"
    moved = await call(door, "POST", "/v1/shelves/3/books/4:move", json={"shelf": "top"})
    assert moved.json()["name"] == "shelves/3/books/4"
    assert moved.json()["title"] == "top"
    assert (await call(door, "GET", "/v1/shelves/3/books/4/title")).json() == "Momo"
    file = await call(door, "GET", "/v1/files/a/b%20c/d.txt")
    assert (file.text, file.headers["content-type"]) == ("a/b c/d.txt", "text/plain")
    stored = await call(door, "PUT", "/v1/files/x", content=b"\0raw", headers={"content-type": "image/png"})
    assert stored.status_code == 200
    assert door.library.calls[-1].content.data == b"\0raw"
    assert door.library.calls[-1].content.content_type == "image/png"
    assert (await call(door, "REPORT", "/v1/audits/4")).json()["title"] == "audited"
    deleted = await call(door, "DELETE", "/v1/shelves/3/books/4")
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.promise("GATEWAY-1")
async def test_a_patch_without_a_mask_names_the_fields_of_its_body(door: Door) -> None:
    """GATEWAY-1. A field set to its default can be changed too, because the door passes on what the body held."""
    await call(
        door, "PATCH", "/v1/shelves/3/books/4", json={"lent": False, "editor": {"givenName": "A"}, "name": "ignored"}
    )
    request = door.library.calls[-1]
    assert request.book.name == "shelves/3/books/4"
    assert list(request.update_mask.paths) == ["lent", "editor.given_name"]
    await call(door, "PATCH", "/v1/shelves/3/books/4?updateMask=title", json={"title": "New", "lent": True})
    assert list(door.library.calls[-1].update_mask.paths) == ["title"]


@pytest.mark.promise("GATEWAY-1")
async def test_defaults_are_shown_and_input_only_fields_are_not(door: Door) -> None:
    """GATEWAY-1. A reader need not know the proto to see that a number is 0."""
    book = (await door.get("/v1/shelves/3/books/4")).json()
    assert book["lent"] is False
    assert book["pages"] == str(2**40)
    assert "secret" not in book


@pytest.mark.promise("GATEWAY-1")
@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"title": "a", "colour": 1}, "book.colour", "no field"),
        (
            {"title": "a", "authors": [{"familyName": "x"}, {"famillyName": "x"}]},
            "book.authors[1].famillyName",
            "no field",
        ),
        ({"title": 5}, "book.title", "text"),
        ({"title": "a", "pages": "many"}, "book.pages", "64 bits"),
        ({"title": "a", "edition": 2**40}, "book.edition", "32 bits"),
        ({"title": "a", "edition": True}, "book.edition", "32 bits"),
        ({"title": "a", "edition": "1_0"}, "book.edition", "32 bits"),
        ({"title": "a", "price": True}, "book.price", "number"),
        ({"title": "a", "lent": "yes"}, "book.lent", "true or false"),
        ({"title": "a", "genre": "OPERA"}, "book.genre", "NOVEL"),
        ({"title": "a", "cover": "§"}, "book.cover", "base64"),
        ({"title": "a", "publishTime": "yesterday"}, "book.publishTime", "2026"),
        ({"title": "a", "authors": {}}, "book.authors", "array"),
        ({"title": "a", "authors": [None]}, "book.authors[0]", "null"),
        ({"title": "a", "editor": []}, "book.editor", "object"),
        (
            {"title": "a", "publishTime": "2026-01-01T00:00:00Z", "publish_time": "2026-01-01T00:00:00Z"},
            "book.publish_time",
            "both",
        ),
        ({}, "book.title", "required"),
        ([], "book", "object"),
    ],
)
async def test_a_wrong_field_is_a_400_that_names_its_path(door: Door, body: Any, field: str, words: str) -> None:
    """GATEWAY-1. The caller sees which field is wrong, in its own spelling, and what is allowed."""
    import json

    answer = await call(
        door, "POST", "/v1/shelves/3/books", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert problem["fields"][0]["field"] == field
    assert words in problem["fields"][0]["description"]
    assert problem["type"] == "https://groundswell.dev/errors/invalid-fields"
    assert not door.library.calls


@pytest.mark.promise("GATEWAY-1")
@pytest.mark.parametrize(
    "query",
    [
        "colour=red", "pageSize=x", "pageSize=1&pageSize=2", "filter=x", "filter.author=x", "filter.genres=OPERA", "lent=maybe",
        "publishedAfter=now", "maxLoan=5", "parent=shelves/9", "pageSize=", "readMask=%C2%84", "a=%ff",
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_a_400(door: Door, query: str) -> None:
    """GATEWAY-1. Unknown, repeated, of the wrong kind, or no parameter at all because the path fills it."""
    answer = await call(door, "GET", f"/v1/shelves/3/books?{query}")
    assert answer.status_code == 400, answer.text
    assert not door.library.calls


@pytest.mark.promise("GATEWAY-2")
async def test_known_paths_answer_405_with_allow_and_trailing_slashes_are_the_same_route(door: Door) -> None:
    """GATEWAY-2. HEAD is GET without a body, OPTIONS tells the methods."""
    wrong = await call(door, "PUT", "/v1/shelves/3/books")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert (await call(door, "TRACE", "/openapi.json")).status_code == 405
    assert (await call(door, "GET", "/v1/shelves/3/books/")).status_code == 200
    head = await call(door, "HEAD", "/v1/shelves/3/books/4")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    options = await call(door, "OPTIONS", "/v1/shelves/3/books/4")
    assert (options.status_code, options.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
    assert (await call(door, "GET", "/v2/nothing")).status_code == 404


@pytest.mark.promise("GATEWAY-11")
async def test_the_idempotency_key_is_the_request_id(door: Door) -> None:
    """GATEWAY-11. Header and field are twins; two names for one request are a mistake."""
    for body, status in (
        ({"shelf": "a"}, 200),
        ({"shelf": "a", "requestId": "r1"}, 200),
        ({"shelf": "a", "requestId": "r2"}, 400),
    ):
        answer = await call(door, "POST", "/v1/shelves/3/books/4:move", json=body, headers={"idempotency-key": "r1"})
        assert answer.status_code == status, answer.text
        if status == 200:
            assert door.library.calls[-1].request_id == "r1"
    long = await call(
        door, "POST", "/v1/shelves/3/books/4:move", json={"shelf": "a"}, headers={"idempotency-key": "x" * 256}
    )
    assert long.status_code == 400


async def test_the_position_of_an_answer_goes_out_as_a_header_and_comes_back_in_the_context(door: Door) -> None:
    """An answer without one has no such header, and what we cannot have given out is refused."""
    answer = await call(door, "GET", "/v1/shelves/3/books", headers={"groundswell-consistency": "1A/2B"})
    assert "groundswell-consistency" not in answer.headers
    assert door.library.contexts[-1].consistency == "1A/2B"
    door.library.position = "1A/3C"
    answer = await call(door, "POST", "/v1/shelves/3/books", json={"title": "Momo"})
    assert answer.headers["groundswell-consistency"] == "1A/3C"
    assert door.library.contexts[-1].consistency == ""
    wrong = await call(door, "GET", "/v1/shelves/3/books", headers={"groundswell-consistency": "1A/2B'; --"})
    assert wrong.status_code == 400
