"""Hosts that may be taken for others: which they are, what becomes of links that lead there, and that their owners have the last word."""

import asyncio
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import msgspec
import pytest
from google.protobuf import field_mask_pb2
from hypothesis import given
from hypothesis import strategies as st

from groundswell.api.links.v1 import links_events_pb2 as events_pb
from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.engines import topics
from groundswell.kernel import postgres, rpc
from groundswell.kernel.context import Context
from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.links import Draft, Link, Options, find_digest
from groundswell.links.model.suspicion import is_suspicious

from .conftest import KEY, MIGRATIONS, NO_REQUEST, Process
from .test_creation import rows
from .test_module import TOPICS, serving
from .test_redirects import follow, forget, stored

INNOCENT = [
    "example.com", "xn.example", "foo--bar.example", "1.example", "192.0.2.7",
    "é.example", "bücher.example", "straße.example", "łódź.example", "bæredygtig.example", "tiếngviệt.example", "l·l.example",
    "ｅｘａｍｐｌｅ.com", "пример.com", "пример-123.com", "россия.рф", "хор.рф", "ελλάδα.gr", "ყველა.example", "հայ.example",
    "שלום.example", "مثال.example", "ไทย.example", "हिन्दी.example", "한국어.example",
    "例え.jp", "日本語ニュース.jp", "ひらがなー.jp", "abc日本カナ.jp", "中文ㄅ.tw", "abc한국어漢.kr", "bücher.例え.jp",
]  # fmt: skip
SUSPICIOUS = [
    "аррӏе.com", "хор.com", "аррӏе.пример.com", "ɡoogle.com", "lınkedın.com", "οο.example", "סוס.example",
    "pаypal.com", "gооgle.com", "googleа.de", "εxample.com", "αβв.gr", "пример漢.example", "abcไทย.example",
    "example.comノlogin.evil.example", "xn--ls8h.example", "xn--a.example",
]  # fmt: skip
"""Whole labels that look like ASCII, scripts that nobody writes together, a letter that looks like a slash, and no punycode at all."""
APPLE, OTHER_APPLE = "https://аррӏе.com/", "https://ɡoogle.com/"
PLAIN = "https://example.com/"


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("host", INNOCENT)
def test_a_name_of_one_script_or_of_scripts_that_are_written_together_is_not_suspicious(host: str) -> None:
    assert not is_suspicious(destinations.compared(host))


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("host", SUSPICIOUS)
def test_a_name_that_mixes_scripts_or_reads_as_another_is_suspicious_in_either_spelling(host: str) -> None:
    ascii_host = destinations.compared(host)
    assert is_suspicious(ascii_host)
    assert is_suspicious(destinations.compared(ascii_host.upper() + "."))


@given(
    st.from_regex(r"[a-z0-9_-]{1,20}(\.[a-z0-9-]{1,20}){0,4}", fullmatch=True).filter(lambda host: "xn--" not in host)
)
def test_no_name_in_ascii_is_suspicious(host: str) -> None:
    assert not is_suspicious(host)


@given(st.lists(st.from_regex(r"(xn--)?[a-z0-9-]{1,59}", fullmatch=True), min_size=1, max_size=4))
def test_whatever_stands_behind_the_prefix_there_is_a_verdict(labels: list[str]) -> None:
    assert is_suspicious(".".join(labels)) in (True, False)


@pytest.mark.promise("LINKS-6")
async def test_a_link_to_a_suspicious_host_is_flagged_and_followed_with_a_preview_until_its_owner_confirms(
    process: Process, other: Process, alice: Context
) -> None:
    """Read from Valkey and from PostgreSQL, by both processes; with the flag, and a second later at most without it."""
    link = await process.create(alice, APPLE, tags=("a",))
    assert link.options.suspicious
    assert await process.links.get(alice, link.id) == link
    assert await process.links.page(alice, 1 << 62, 10) == [link]
    assert await process.links.lookup(alice, "", link.code) == link
    for _ in range(2):
        assert [(await follow(each, link)).target.suspicious for each in (process, other)] == [True, True]
        await forget(process, link)
    confirmed = await process.change(alice, link, suspicious=False)
    assert (confirmed.options, confirmed.version) == (replace(link.options, suspicious=False), link.version + 1)
    assert await other.links.get(alice, link.id) == confirmed
    for _ in range(2):
        assert [(await follow(each, link)).target.suspicious for each in (process, other)] == [False, False]
        await forget(process, link)
    assert await rows(process, alice, "suspicious_links") == 0


@pytest.mark.promise("LINKS-6")
async def test_of_a_batch_those_links_are_flagged_that_lead_to_a_suspicious_host(
    process: Process, alice: Context
) -> None:
    wanted = [Draft(options=Options(destination=url)) for url in (PLAIN, APPLE, "https://xn--80ak6aa92e.com/x", PLAIN)]
    made = await process.creation.create_batch(alice, wanted, NO_REQUEST)
    assert [link.options.suspicious for link in made] == [False, True, True, False]
    assert [(await process.links.get(alice, link.id)).options.suspicious for link in made] == [False, True, True, False]


@pytest.mark.promise("LINKS-6")
async def test_a_confirmation_holds_for_its_host_and_is_not_given_before_the_flag_was_seen(
    process: Process, alice: Context
) -> None:
    """What is said in the request that first leads a link to the host is not heard."""

    async def changed(link: Link, **chosen: object) -> bool:
        return (await process.change(alice, link, **chosen)).options.suspicious

    link = await process.create(alice, APPLE, suspicious=False)
    assert link.options.suspicious
    assert not await changed(link, suspicious=False)
    assert not await changed(link, destination=APPLE + "another-page")
    assert not await changed(link, title="x")
    assert await changed(link, destination=OTHER_APPLE, suspicious=False)
    assert await changed(link, title="y")
    assert not await changed(link, destination=OTHER_APPLE, suspicious=False)
    assert await changed(link, destination=APPLE)
    assert not await changed(link, destination=PLAIN), "nothing about this host is suspicious"


@pytest.mark.promise("LINKS-6")
async def test_an_owner_may_ask_for_the_page_on_any_link_and_has_it_until_it_is_no_longer_wanted(
    process: Process, alice: Context
) -> None:
    link = await process.create(alice, PLAIN, suspicious=True)
    assert (await follow(process, link)).target.suspicious
    moved = await process.change(alice, link, destination="https://example.org/")
    assert moved.options.suspicious
    assert (await process.change(alice, moved, title="x")).options.suspicious
    assert not (await process.change(alice, moved, suspicious=False)).options.suspicious
    assert not (await follow(process, link)).target.suspicious


@pytest.mark.promise("LINKS-6", "LINKS-8")
async def test_find_if_exists_gives_a_confirmed_link_back_but_none_without_the_page_that_is_asked_for(
    process: Process, alice: Context
) -> None:
    async def found(*, suspicious: bool = False, url: str = APPLE) -> Link:
        draft = Draft(options=Options(destination=url, suspicious=suspicious))
        return await process.creation.create(alice, draft, NO_REQUEST, find_if_exists=True)

    link = await found()
    assert await found() == await found(suspicious=True) == link
    confirmed = await process.change(alice, link, suspicious=False)
    assert await found() == confirmed
    assert (await found(suspicious=True)).id != link.id
    plain = await found(url=PLAIN)
    paged = await found(url=PLAIN, suspicious=True)
    assert paged.id != plain.id
    assert paged.options.suspicious
    assert (await found(url=PLAIN)).id in (plain.id, paged.id)


def test_links_of_before_are_still_found_by_what_they_have_in_common() -> None:
    """The digest of options as versions without the flag made it: it is stored with each link."""
    assert find_digest(7, Options(destination=PLAIN, tags=("a",))).hex() == (
        "e745ab0757257c0160817d998188448dfd411d3ca6f64043c72d18c4c3d62663"
    )


@dataclass(frozen=True, kw_only=True)
class _OldTarget:
    """What a redirect needed before there were previews."""

    link: int
    tenant: int
    version: int
    destination: str
    redirect_status: int
    edge_seconds: int
    valid_since_ms: int | None
    expires_ms: int | None
    max_visits: int
    active: bool
    deleted: bool = False


class _OldRecord(msgspec.Struct, array_like=True, frozen=True):
    refresh_at_ms: int
    target: _OldTarget | None


async def test_records_in_valkey_are_read_by_processes_of_the_version_before_and_theirs_by_this_one(
    process: Process, alice: Context
) -> None:
    link = await process.create(alice, APPLE)
    await follow(process, link)
    key = f"links:{link.domain}:{link.code}"
    version, _, record = (await process.redis.execute("GET", key)).partition(b"|")
    old = msgspec.json.decode(record, type=_OldRecord)
    assert old.target is not None
    assert old.target.destination == link.options.destination
    await process.redis.execute("SET", key, version + b"|" + msgspec.json.encode(old))
    found = await follow(process, link)
    assert found.target == replace(await stored(process, alice, link), suspicious=False)


async def test_statements_of_a_process_that_runs_go_on_while_its_successor_migrates(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """Each migration in turn, upon those before it: a prepared `SELECT *` fails in a transaction once its columns are others."""
    service = f"links{secrets.token_hex(4)}"
    first, *later = sorted(MIGRATIONS.glob("*.sql"))
    shutil.copy(first, tmp_path)
    connection = await asyncpg.connect(await postgres.migrate(postgres_dsn, service, tmp_path, KEY))
    try:
        for file in [first, *later]:
            shutil.copy(file, tmp_path)
            await postgres.migrate(postgres_dsn, service, tmp_path, KEY)
            for table in ("links", "domains", "link_tags", "click_totals", "domain_hosts"):
                async with connection.transaction():
                    await connection.fetch(f"SELECT * FROM {table} LIMIT 1")
    finally:
        await connection.close()


@pytest.mark.promise("LINKS-6", "LINKS-9")
async def test_calls_and_events_tell_that_a_link_is_suspicious_and_no_client_confirms_without_saying_so(
    kafka_address: str, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """Over gRPC: created, resolved, replaced as a whole, changed by mask and without one; each change is told within a second."""
    await topics.create(kafka_address, TOPICS)
    async with serving(kafka_address, postgres_dsn, redis_url, tmp_path) as running:
        alice = await running.tenant()

        async def previewed(link: pb.Link) -> bool:
            request = pb.ResolveLinkRequest(code=link.code, domain=link.domain)
            return bool((await rpc.call(running.stub.ResolveLink, request, Context())).preview)

        async def told(link: pb.Link, kind: type[events_pb.LinkCreated | events_pb.LinkUpdated]) -> bool:
            async with asyncio.timeout(10):
                event = await running.heard(link.name)
            parsed: events_pb.LinkCreated | events_pb.LinkUpdated = event.parse(kind)
            return bool(parsed.link.suspicious)

        made = await running.create(alice, destination=APPLE)
        assert made.suspicious
        assert await told(made, events_pb.LinkCreated)
        assert await previewed(made)
        whole = await running.update(alice, pb.Link(name=made.name, destination=APPLE, title="x"), "*")
        assert whole.suspicious
        assert await told(made, events_pb.LinkUpdated)
        confirmed = await running.update(alice, pb.Link(name=made.name, suspicious=False))
        assert not confirmed.suspicious
        assert not await told(made, events_pb.LinkUpdated)
        assert not await previewed(made)
        mask = field_mask_pb2.FieldMask(paths=["suspicious"])
        request = pb.UpdateLinkRequest(link=pb.Link(name=made.name, suspicious=True), update_mask=mask)
        assert (await rpc.call(running.stub.UpdateLink, request, alice)).suspicious
        assert await told(made, events_pb.LinkUpdated)
        assert await previewed(made)
        whole = await running.update(alice, pb.Link(name=made.name, destination=APPLE, suspicious=False), "*")
        assert not whole.suspicious


@pytest.mark.promise("LINKS-6", "LINKS-9")
async def test_each_of_a_bounded_links_visits_is_one_page(process: Process, alice: Context) -> None:
    link = await process.create(alice, APPLE, max_visits=2)
    visits = [await follow(process, link) for _ in range(2)]
    assert [(each.target.suspicious, each.lasts_ms) for each in visits] == [(True, 0)] * 2
    with pytest.raises(errors.LinkGone):
        await follow(process, link)
