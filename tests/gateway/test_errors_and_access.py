"""What a caller sees when something is wrong, and who may call at all."""

import pytest

from tests.gateway.door import READER, SECRET, Door


@pytest.mark.promise("GATEWAY-2")
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("unprocessable", 422, "UNPROCESSABLE"),
        ("gone", 410, "GONE"),
        ("missing", 404, "BOOK_NOT_FOUND"),
        ("taken", 409, "ALREADY_EXISTS"),
        ("conflict", 409, "CONFLICT"),
        ("precondition", 400, "FAILED_PRECONDITION"),
        ("exhausted", 429, "EXHAUSTED"),
        ("unavailable", 503, "UNAVAILABLE"),
        ("denied", 403, "DENIED"),
        ("late", 504, "DEADLINE_EXCEEDED"),
    ],
)
async def test_an_error_of_a_service_leaves_as_a_problem_with_a_stable_type(
    door: Door, name: str, status: int, code: str
) -> None:
    """GATEWAY-2. The status map, and RFC 9457 with code, message and fields."""
    answer = await door.client.delete(f"/v1/shelves/3/books/{name}", headers={"authorization": f"Bearer {SECRET}"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == "https://groundswell.dev/errors/" + code.lower().replace("_", "-")
    assert problem["message"] == problem["detail"]
    assert problem["instance"].endswith(answer.headers["x-request-id"])


@pytest.mark.promise("GATEWAY-2")
async def test_retry_after_is_whole_seconds_and_at_least_one(door: Door) -> None:
    """GATEWAY-2. 2.2 s is 3, 0.2 s is 1; what took too long says it too."""
    assert (await door.get("/v1/shelves/3/books/exhausted")).headers["retry-after"] == "3"
    assert (await door.get("/v1/shelves/3/books/unavailable")).headers["retry-after"] == "1"
    assert (await door.get("/v1/shelves/3/books/late")).headers["retry-after"] == "1"


@pytest.mark.promise("GATEWAY-2")
async def test_a_mistake_of_the_platform_tells_nothing_but_the_request_id(door: Door) -> None:
    """GATEWAY-2. No stack trace, no message of the exception, no name of the server."""
    answer = await door.get("/v1/shelves/3/books/bug", **{"x-request-id": "find-me"})
    assert answer.status_code == 500
    assert "secret internals" not in answer.text
    assert "KeyError" not in answer.text
    assert answer.json()["instance"] == "urn:groundswell:request:find-me"
    assert answer.headers["server"] == "groundswell"


@pytest.mark.promise("GATEWAY-2")
async def test_a_failed_precondition_is_412_when_the_request_carried_one(door: Door) -> None:
    """GATEWAY-2. `If-Match` makes the difference between 400 and 412."""
    headers = {"authorization": f"Bearer {SECRET}", "if-match": '"x"'}
    assert (await door.client.delete("/v1/shelves/3/books/precondition", headers=headers)).status_code == 412


@pytest.mark.promise("GATEWAY-10")
async def test_a_call_needs_a_credential_that_is_good_and_allows_it(door: Door) -> None:
    """GATEWAY-10. No credential and a bad one are 401 with a challenge that tells which; a good one without the permission is 403."""
    path, challenge = "/v1/shelves/3/books/4", 'Bearer realm="groundswell"'
    none = await door.client.get(path)
    assert (none.status_code, none.headers["www-authenticate"]) == (401, challenge)
    for headers in ({"authorization": "Bearer gsk_9_bad"}, {"authorization": "Basic abc"}, {"x-api-key": "nonsense"}):
        answer = await door.client.get(path, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == f'{challenge}, error="invalid_token"'
    assert (await door.client.get(path, headers={"x-api-key": READER})).status_code == 200
    assert (await door.client.delete(path, headers={"x-api-key": READER})).status_code == 403
    assert (await door.client.get(path, headers={"authorization": f"bearer {SECRET}"})).status_code == 200


@pytest.mark.promise("GATEWAY-10")
async def test_the_tenant_comes_from_the_credential_and_gs_headers_are_dropped(door: Door) -> None:
    """GATEWAY-10. No header of a client reaches the service's context."""
    forged = {"gs-context-bin": "AAAA", "gs-tenant": "99", "x-tenant-id": "99", "authorization": f"Bearer {SECRET}"}
    await door.client.get("/v1/shelves/3/books", headers=forged)
    context = door.library.contexts[-1]
    assert (context.tenant, context.actor) == (7, "apiKeys/1")
    await door.client.get("/v1/shelves/3/books", headers={"x-api-key": READER})
    assert door.library.contexts[-1].tenant == 8


@pytest.mark.promise("GATEWAY-10")
async def test_a_kept_answer_of_one_tenant_is_never_given_to_another(door: Door) -> None:
    """GATEWAY-10. The tenant is part of the key."""
    first = (await door.get("/v1/shelves/3/books/4")).json()["title"]
    other = (await door.client.get("/v1/shelves/3/books/4", headers={"x-api-key": READER})).json()["title"]
    assert first != other
    assert [context.tenant for context in door.library.contexts] == [7, 8]


@pytest.mark.promise("GATEWAY-2")
async def test_a_request_id_is_echoed_when_it_is_harmless_and_made_when_it_is_not(door: Door) -> None:
    """GATEWAY-2. What is not plain text is replaced, not repeated."""
    assert (await door.get("/healthz", **{"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "<script>", "x" * 129):
        made = (await door.get("/healthz", **{"x-request-id": bad})).headers["x-request-id"]
        assert made != bad
        assert made
