"""The page in a redirect's place: that it shows where the redirect leads and nothing else, and is kept and counted as the redirect is.

Method: the door in front of a library whose codes say that they are to be previewed; what hostile addresses make of the page is read
with a parser of HTML.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import REGISTRY

from groundswell.api.access.v1 import access_pb2
from groundswell.api.gateway.v1 import edge_pb2
from groundswell.gateway.http import preview
from groundswell.gateway.http.openapi import document
from groundswell.gateway.http.replies import GZIP_BYTES_MIN
from groundswell.gateway.http.routes import MisusedOption, RouteTable
from groundswell.gateway.module import SERVICES
from tests.gateway.door import Door, pb
from tests.gateway.test_views import rows

APPLE = "https://xn--80ak6aa92e.com/login?a=1&b=%D0%B0#top"
HOSTILE = [
    'https://example.com/"><script>alert(1)</script>',
    "https://example.com/'onmouseover='alert(1)",
    "https://example.com/</style><img src=x onerror=alert(1)>",
    "https://example.com/&quot;&lt;b&gt;",
    "https://example.com/\u202egnp.exe\u2066",
    "https://example.com\\@evil.example/",
    "https://[::1/",
    "https:///nowhere",
    "",
]
TAGS = {"html", "meta", "title", "style", "main", "h1", "p", "b", "bdi", "mark", "a"}


@dataclass
class Page(HTMLParser):
    """What a browser would make of the page."""

    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """By each element that the text is in: its class, or else its name."""
    _inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.tags.append(tag)
        if tag != "meta":
            self._inside.append(given.get("class") or tag)
        if tag == "a":
            self.links.append(given["href"] or "")
            assert set((given["rel"] or "").split()) == {"noreferrer", "nofollow", "noopener"}

    def handle_data(self, data: str) -> None:
        for name in self._inside:
            self.texts[name] = self.texts.get(name, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside.pop()


def read(body: bytes) -> Page:
    page = Page()
    page.feed(body.decode())
    return page


def previewed(door: Door, location: str = APPLE, **more: int) -> None:
    door.library.locations["abc"] = pb.FollowCodeResponse(location=location, preview=True, **more)


@pytest.mark.promise("LINKS-6")
async def test_where_a_preview_is_asked_for_the_answer_is_a_page_that_shows_where_the_redirect_leads(
    door: Door,
) -> None:
    """Whatever status the redirect would have; the host as it is read and as it is looked up, and the address whole."""
    previewed(door, status=308)
    answer = await door.client.get("/abc", headers={"accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "location" not in answer.headers
    page = read(answer.content)
    assert page.texts["host"] == "xn--80ak6aa92e.com"
    assert (page.texts["b"], page.texts["mark"]) == ("аррӏе.com", "аррӏе")
    assert page.texts["address"] == APPLE
    assert page.links == [APPLE]
    assert (await door.client.get("/abc", headers={"accept-encoding": "gzip"})).content == answer.content
    previewed(door, "https://Example.com:8443/")
    door.answers.purge("code/localhost/abc")
    plain = read((await door.client.get("/abc")).content)
    assert plain.texts["host"] == "example.com"
    assert "b" not in plain.texts, "a name in ASCII is shown once"


@pytest.mark.promise("LINKS-6")
async def test_the_page_may_load_nothing_and_run_nothing_and_only_its_own_style_applies(door: Door) -> None:
    previewed(door)
    answer = await door.client.get("/abc")
    style = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"


@pytest.mark.promise("LINKS-6", "GATEWAY-8")
async def test_a_page_that_is_opened_is_one_reading_and_one_that_is_not_is_none(door: Door) -> None:
    """As with redirects: hot or not, one GET is one row; HEAD, DNT, Sec-GPC and `?nostat` make none."""
    previewed(door)
    for _ in range(20):
        assert (await door.client.get("/abc")).headers["groundswell-view"] == "spooled"
    head = await door.client.head("/abc")
    assert (head.status_code, head.content, head.headers["groundswell-view"]) == (200, b"", "skipped")
    for path, headers in (("/abc", {"dnt": "1"}), ("/abc", {"sec-gpc": "1"}), ("/abc?nostat", {})):
        assert (await door.client.get(path, headers=headers)).headers["groundswell-view"] == "skipped"
    await rows(door, 20)


@pytest.mark.promise("LINKS-6", "GATEWAY-6")
async def test_a_page_is_kept_here_and_purged_as_the_redirect_is_but_no_cache_outside_may_keep_it(door: Door) -> None:
    """Nor may it name itself for one (`ETag`). The control: the redirect that follows is shared."""
    previewed(door, edge_seconds=60)
    first = await door.client.get("/abc")
    again = await door.client.get("/abc", headers={"if-none-match": "*"})
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["cache-status"] == "groundswell; hit"
    assert len(door.library.calls) == 1
    assert first.headers["cache-control"] == "private, no-store"
    assert not {"etag", "cdn-cache-control", "cache-tag"} & set(first.headers)
    door.library.locations["abc"] = pb.FollowCodeResponse(location=APPLE, edge_seconds=60)
    door.answers.purge("code/localhost/abc")
    confirmed = await door.client.get("/abc")
    assert (confirmed.status_code, confirmed.headers["location"], confirmed.content) == (302, APPLE, b"")
    assert "s-maxage=60" in confirmed.headers["cache-control"]


def hot() -> float:
    return REGISTRY.get_sample_value("groundswell_gateway_hot_total") or 0.0


@pytest.mark.promise("LINKS-6", "GATEWAY-7")
async def test_a_page_is_given_on_the_hot_path_and_to_each_client_as_it_takes_it(door: Door) -> None:
    """All visitors of a suspicious link see it. The first is the control: that one is not hot."""
    previewed(door)
    pages: list[bytes] = []
    for takes, coding in (("gzip", "gzip"), ("br, gzip", "gzip"), ("identity", None), ("gzip;q=0", None)):
        before = hot()
        answer = await door.client.get("/abc", headers={"accept-encoding": takes})
        assert hot() - before == bool(pages)
        assert (answer.headers.get("content-encoding"), answer.headers["vary"]) == (coding, "accept-encoding")
        pages.append(answer.content)
    assert len(pages[0]) > GZIP_BYTES_MIN
    assert set(pages) == {pages[0]}
    assert len(door.library.calls) == 1


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("location", HOSTILE)
async def test_no_address_becomes_more_than_text_and_one_link_on_the_page(door: Door, location: str) -> None:
    previewed(door, location)
    answer = await door.client.get("/abc")
    assert answer.status_code == 200
    page = read(answer.content)
    assert set(page.tags) <= TAGS
    assert page.tags.count("a") <= 1
    assert page.texts.get("address", "").isascii()
    assert page.texts.get("host", "").split(":")[0] in ("", "example.com")


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(
    "location",
    [
        "javascript:alert(1)//host",
        "javascript://host/%0Aalert(1)",
        "JaVaScRiPt://host/%0Aalert(1)",
        " javascript://host/",
        "java\tscript://host/",
        "\x01java\nscript://host/",
        "vbscript://host/",
        "data:text/html,x",
        "data://host/,x",
        "blob:https://example.com/x",
        "file:///etc/passwd",
        "file://host/etc/passwd",
        "chrome-extension://host/x",
        "intent://host/#Intent;scheme=https;end",
        "view-source:https://example.com/",
        "spotify:track:1",
        "spotify:///track",
        "mailto:a@example.com",
        "//a.example/",
    ],
)
def test_what_has_no_host_or_runs_in_the_browser_is_shown_but_can_not_be_followed(location: str) -> None:
    page = read(preview.page(location))
    assert page.texts["address"] == location
    assert page.links == []
    assert "Your browser hands" not in "".join(page.texts.values())


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(
    "location", ["spotify://track/1?a=1&b=%22#x", "Web+App-2.0://host", "ftp://files.example.com/x"]
)
async def test_an_apps_address_is_followed_from_the_page_which_says_what_takes_it(door: Door, location: str) -> None:
    """And what an address of an app holds becomes no more of the page than that of a site. The control: the web's says nothing of it."""
    previewed(door, location)
    answer = await door.client.get("/abc")
    page = read(answer.content)
    assert (page.links, page.texts["address"]) == ([location], location)
    assert f"takes {location.partition(':')[0].lower()}: addresses" in page.texts["p"]
    assert set(page.tags) <= TAGS
    assert "takes" not in read(preview.page(APPLE)).texts["p"]


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("hostile", [each for each in HOSTILE if each.startswith("https://e")])
async def test_no_address_of_an_app_becomes_more_than_text_and_one_link_on_the_page(door: Door, hostile: str) -> None:
    previewed(door, hostile.replace("https", "spotify"))
    page = read((await door.client.get("/abc")).content)
    assert set(page.tags) <= TAGS
    assert page.tags.count("a") == 1
    assert page.links[0].startswith("spotify://example.com")
    assert page.texts["address"].isascii()


@pytest.mark.promise("LINKS-6")
def test_letters_from_right_to_left_move_no_other_part_of_the_name() -> None:
    """Each label is set apart, in the order of the address; one that is no punycode is shown as it came."""
    body = preview.page("https://xn--4dbrk0ce.example.xn--4dbrk0ce.com/").decode()
    israel = "<bdi><mark>ישראל</mark></bdi>"
    assert f"<b>{israel}.<bdi>example</bdi>.{israel}.<bdi>com</bdi></b>" in body
    page = read(preview.page("https://xn--ls8h.xn--fiq228c.example/"))
    assert page.texts["b"] == "xn--ls8h.中文.example"


@pytest.mark.promise("LINKS-6", "GATEWAY-2")
def test_the_document_describes_the_page_where_a_method_has_one() -> None:
    """GATEWAY-2. And only there: a redirect without previews has no answer 200."""
    paths = json.loads(document(RouteTable(SERVICES)))["paths"]
    assert set(paths["/{code}"]["get"]["responses"]["200"]["content"]) == {"text/html"}
    library = RouteTable({"library": [pb.DESCRIPTOR.services_by_name["LibraryService"]]})
    responses = json.loads(document(library))["paths"]["/counted/{code}"]["get"]["responses"]
    assert "200" not in responses


def previewing(field_: str) -> ServiceDescriptor:
    """A service whose only method redirects, and previews where this field of its answer says so."""
    name = f"previewing_{field_}"
    options = descriptor_pb2.MethodOptions()
    options.Extensions[annotations_pb2.http].get = "/{code}"
    options.Extensions[access_pb2.rule].public = True
    options.Extensions[edge_pb2.edge].redirect.CopyFrom(
        edge_pb2.Redirect(location_field="location", preview_field=field_)
    )
    answer = pb.FollowCodeResponse.DESCRIPTOR.full_name
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto", package=name, dependency=[pb.DESCRIPTOR.name, "groundswell/api/gateway/v1/edge.proto"]
    )
    method = file.service.add(name="Previewing").method.add(
        name="Follow", input_type=f".{pb.FollowCodeRequest.DESCRIPTOR.full_name}", output_type=f".{answer}"
    )
    method.options.CopyFrom(options)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return descriptor_pool.Default().FindServiceByName(f"{name}.Previewing")


def test_a_preview_by_a_field_that_is_not_there_stops_the_start() -> None:
    """The control: the same with a field that is."""
    assert len(RouteTable({"library": [previewing("preview")]}).routes) == 1
    with pytest.raises(MisusedOption, match="nonsense"):
        RouteTable({"library": [previewing("nonsense")]})
