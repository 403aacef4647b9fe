"""What caches outside hear of an answer: whether they may keep it, and its name."""

import pytest

from tests.gateway.door import Door, pb


@pytest.mark.promise("GATEWAY-6")
async def test_answers_that_may_be_kept_outside_say_so_and_all_others_say_no_store(door: Door) -> None:
    """GATEWAY-6. What a CDN needs for a link that opted in; `private, no-store` for one that is counted here."""
    door.library.locations["counted"] = pb.FollowCodeResponse(location="https://a.example/")
    door.library.locations["shared"] = pb.FollowCodeResponse(location="https://a.example/", edge_seconds=30, status=301)
    counted, shared = await door.client.get("/counted"), await door.client.get("/shared")
    assert counted.headers["cache-control"] == "private, no-store"
    assert "cache-tag" not in counted.headers
    assert shared.status_code == 301
    assert (
        shared.headers["cache-control"]
        == "public, max-age=0, s-maxage=30, stale-while-revalidate=60, stale-if-error=60"
    )
    assert shared.headers["cdn-cache-control"] == "max-age=30, stale-while-revalidate=60, stale-if-error=60"
    assert shared.headers["cache-tag"] == "code/localhost/shared"
    assert (await door.client.get("/unknown")).headers["cache-control"] == "no-store"
    assert (await door.get("/v1/shelves/3/books")).headers["cache-control"] == "no-store"
    assert "age" in (await door.client.get("/shared")).headers


@pytest.mark.promise("GATEWAY-6")
async def test_a_strong_etag_saves_the_body(door: Door) -> None:
    """GATEWAY-6. 304 on `If-None-Match`, whatever form the client gives the tag."""
    first = await door.get("/v1/shelves/3/books/4")
    etag = first.headers["etag"]
    assert etag.startswith('"')
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await door.get("/v1/shelves/3/books/4", **{"if-none-match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert (await door.get("/v1/shelves/3/books/4", **{"if-none-match": '"other"'})).status_code == 200


@pytest.mark.promise("GATEWAY-6")
async def test_a_redirect_that_caches_may_keep_has_a_strong_etag_of_its_status_and_location(door: Door) -> None:
    """GATEWAY-6. The same from the hot path, for `HEAD` and after a purge; another one once it leads elsewhere. Control: none for one
    that no cache outside may keep."""

    async def etag(path: str = "/shared", **answer: object) -> str | None:
        if answer:
            door.library.locations[path[1:]] = pb.FollowCodeResponse(**answer)
            door.answers.purge(f"code/localhost{path}")
        told = [await door.client.get(path), await door.client.get(path), await door.client.head(path)]
        assert told[1].headers["cache-status"] == "groundswell; hit"
        found: set[str | None] = {each.headers.get("etag") for each in told}
        assert len(found) == 1
        return found.pop()

    first = await etag(location="https://a.example/", edge_seconds=30)
    assert first is not None
    assert (first[0], first[-1]) == ('"', '"')
    assert await etag(location="https://a.example/", edge_seconds=60) == first
    others = [
        await etag(location="https://b.example/", edge_seconds=30),
        await etag(location="https://a.example/", edge_seconds=30, status=301),
    ]
    assert len({first, *others}) == 3
    assert await etag("/counted", location="https://a.example/") is None


@pytest.mark.promise("GATEWAY-6")
async def test_a_redirect_is_given_whole_whatever_its_caller_has(door: Door) -> None:
    """GATEWAY-6. Conditions are looked at where the answer would be one of success (RFC 9110, 13.2.1): a 304 says that a 200
    would have come. For who has this one, any or another, asked by its path alone or with more."""
    door.library.locations["shared"] = pb.FollowCodeResponse(location="https://a.example/", edge_seconds=30)
    tag = (await door.client.get("/shared")).headers["etag"]
    for given in (tag, f"W/{tag}", "*", '"other"'):
        for path in ("/shared", "/shared?utm_source=x"):
            again = await door.client.get(path, headers={"if-none-match": given})
            assert (again.status_code, again.headers["location"]) == (302, "https://a.example/")
            assert (again.headers["etag"], again.headers["groundswell-view"]) == (tag, "spooled")
