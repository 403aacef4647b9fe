"""Schemes beside http and https: which a domain may allow, what is then led where, and what nobody is ever led to."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest
from google.protobuf import field_mask_pb2

from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.engines import topics
from groundswell.kernel import errors as kernel_errors
from groundswell.kernel import rpc, schemes
from groundswell.kernel.context import Context
from groundswell.kernel.errors import MESSAGE_LENGTH_MAX
from groundswell.kernel.idempotency import RequestIdReused, RequestKey
from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.links import ChosenDomain, Domain, Draft, Options
from groundswell.links.model.schemes import SCHEMES_MAX
from groundswell.links.service.domains import disallowed

from .conftest import NO_REQUEST, Process
from .test_creation import outbox, rows
from .test_module import TOPICS, serving
from .test_redirects import follow, forget, outcome

TRACK = "spotify://track/1"
KEPT = [
    TRACK,
    "Spotify://Track/1?si=%2f&SI=%2F#Top",
    "fb://profile/1",
    "ftp://files.example.com/x",
    "FTP://files.example.com:2121/a//b/./c",
    "com.example.app://callback?code=1&state=[a]",
    "web+app://open",
    "myapp://[2001:db8::1]:8443/x",
    "myapp://192.0.2.7",
    "app-2.0+beta://host_name#a",
    "a" * schemes.LENGTH_MAX + "://host/",
]
CHANGED = [
    ("myapp://bücher.example/ß", "myapp://xn--bcher-kva.example/%C3%9F"),
    ("myapp://track/a b\\c", "myapp://track/a%20b%5Cc"),
    ("myapp://track/100%#a#b", "myapp://track/100%25#a%23b"),
]


async def allow(process: Process, context: Context, *allowed: str, domain: Domain | None = None) -> ChosenDomain:
    """Gives the tenant's own domain, or another one, these schemes."""
    chosen = domain or await process.domains.default(context)
    return await process.domains.update(context, chosen.id, "", allowed, NO_REQUEST)


async def another(process: Process, context: Context, *allowed: str) -> ChosenDomain:
    """A second domain of the tenant."""
    return await process.domains.create(context, f"go{context.tenant}.example", NO_REQUEST, schemes=allowed)


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("url", KEPT, ids=lambda url: url[:40])
async def test_what_a_domain_allows_is_kept_byte_for_byte_and_visitors_are_led_there(
    process: Process, other: Process, alice: Context, url: str
) -> None:
    """From Valkey and from PostgreSQL, by both processes; before it is allowed the same is refused."""
    with pytest.raises(errors.SchemeNotAllowed):
        await process.create(alice, url)
    await allow(process, alice, destinations.scheme_of(url))
    link = await process.create(alice, url)
    assert (await other.links.get(alice, link.id)).options.destination == url
    for each in (process, other):
        assert (await follow(each, link)).target.destination == url
        await forget(process, link)


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(("url", "stored"), CHANGED)
async def test_of_an_apps_address_too_only_what_is_illegal_is_encoded(
    process: Process, alice: Context, url: str, stored: str
) -> None:
    await allow(process, alice, "myapp")
    assert (await process.create(alice, url)).options.destination == stored
    assert (await process.create(alice, stored)).options.destination == stored


@pytest.mark.promise("LINKS-6")
async def test_a_scheme_is_allowed_by_one_domain_and_refused_by_the_others(
    process: Process, alice: Context, bob: Context
) -> None:
    """By the tenant's other domain, and by those of another tenant; the refusal says what is allowed, and how to add to it."""
    own = await process.domains.default(alice)
    allowing = await another(process, alice, "spotify", "fb")
    assert (await process.create(alice, TRACK, domain=allowing.host)).domain == allowing.host
    with pytest.raises(errors.SchemeNotAllowed, match="lead to http and https") as refused:
        await process.create(alice, TRACK)
    assert [field.field for field in refused.value.fields] == ["link.destination"]
    assert f"PATCH /v1/domains/{own.id}" in refused.value.message
    with pytest.raises(errors.SchemeNotAllowed, match="lead to fb, spotify, http and https"):
        await process.create(alice, "ftp://files.example.com/", domain=allowing.host)
    with pytest.raises(errors.SchemeNotAllowed):
        await process.create(bob, TRACK)
    with pytest.raises(errors.DomainUnknown):
        await process.create(bob, TRACK, domain=allowing.host)
    await process.create(alice)


@pytest.mark.promise("LINKS-6")
async def test_the_refusal_of_the_longest_schemes_is_whole(process: Process, alice: Context) -> None:
    names = [f"{number:a>{schemes.LENGTH_MAX}}" for number in range(SCHEMES_MAX)]
    await allow(process, alice, *names)
    with pytest.raises(errors.SchemeNotAllowed) as refused:
        await process.create(alice, "b" * schemes.LENGTH_MAX + "://host/")
    assert len(refused.value.message) < MESSAGE_LENGTH_MAX
    assert f"https, and {SCHEMES_MAX - 6} more." in refused.value.message
    assert refused.value.message.endswith(").")


@pytest.mark.promise("LINKS-6")
async def test_a_scheme_that_is_taken_off_is_refused_by_every_process_and_links_that_have_it_are_left(
    process: Process, other: Process, alice: Context
) -> None:
    """All but the destination may be changed, also by who says it again; it may be led away, and not back."""
    await allow(process, alice, "spotify")
    link, moved = await process.create(alice, TRACK), await other.create(alice)
    moved = await other.change(alice, moved, destination=TRACK)
    await allow(process, alice)
    for each in (process, other):
        with pytest.raises(errors.SchemeNotAllowed):
            await each.create(alice, TRACK)
        with pytest.raises(errors.SchemeNotAllowed):
            await each.change(alice, link, destination="spotify://track/2")
        await forget(process, link)
        assert await outcome(each, link.domain, link.code) == TRACK
    again = await process.change(alice, link, title="x", destination=TRACK)
    assert (again.options.title, again.options.destination) == ("x", TRACK)
    assert (await process.change(alice, link, suspicious=True)).options.suspicious
    assert (await process.change(alice, moved, destination="https://example.com/")).version == 3
    with pytest.raises(errors.SchemeNotAllowed) as refused:
        await process.change(alice, moved, destination=TRACK)
    assert [field.field for field in refused.value.fields] == ["link.destination"]


@pytest.mark.promise("LINKS-6")
async def test_a_batch_names_the_link_whose_domain_does_not_allow_its_scheme_and_is_not_made(
    process: Process, alice: Context
) -> None:
    """Over two domains; one query for all, and none where no link needs it."""
    allowing = await another(process, alice, "spotify")

    def draft(url: str, domain: str = "") -> Draft:
        return Draft(options=Options(destination=url), domain=domain)

    good = [draft(TRACK, allowing.host), draft("https://example.com/"), draft("SPOTIFY://track/2", allowing.host)]
    with pytest.raises(errors.SchemeNotAllowed) as refused:
        await process.creation.create_batch(alice, [*good, draft(TRACK)], NO_REQUEST)
    [field] = refused.value.fields
    assert field.field == "links[3].destination"
    with pytest.raises(errors.DestinationRefused, match="javascript") as refused_for_good:
        await process.creation.create_batch(alice, [*good, draft("javascript://host/")], NO_REQUEST)
    assert refused_for_good.value.fields[0].field == "links[3].destination"
    assert await rows(process, alice, "links") == 0
    assert await outbox(process, alice) == []
    assert len(await process.creation.create_batch(alice, good, NO_REQUEST)) == 3
    asked: list[asyncpg.LoggedQuery] = []
    async with process.database.tenant_tx(alice) as tx:
        with tx._connection.query_logger(asked.append):
            assert await disallowed(tx, [(allowing.id, "https://example.com/")] * 1_000) == []
            assert not asked
            assert await disallowed(tx, [(allowing.id, TRACK)] * 1_000) == []
    assert len(asked) == 1


@pytest.mark.promise("LINKS-6", "LINKS-8")
async def test_find_if_exists_gives_back_a_link_to_an_app_while_its_scheme_is_allowed(
    process: Process, alice: Context
) -> None:
    wanted = Draft(options=Options(destination=TRACK))
    await allow(process, alice, "spotify")
    link = await process.creation.create(alice, wanted, NO_REQUEST, find_if_exists=True)
    assert await process.creation.create(alice, wanted, NO_REQUEST, find_if_exists=True) == link
    await allow(process, alice)
    with pytest.raises(errors.SchemeNotAllowed):
        await process.creation.create(alice, wanted, NO_REQUEST, find_if_exists=True)


@pytest.mark.promise("LINKS-6")
async def test_an_apps_host_is_denied_found_suspicious_and_kept_from_leading_back_as_any_other(
    process: Process, alice: Context
) -> None:
    """Where an app opens `app://host` nobody here knows, so with no port it counts as the platform's own."""
    own = await allow(process, alice, "spotify", "itms-apps")
    await process.denials.create(alice, "track", NO_REQUEST)
    with pytest.raises(errors.DestinationDenied, match="entry track"):
        await process.create(alice, "Spotify://TRACK./1")
    await process.create(alice, "spotify://album/1")
    assert (await process.create(alice, "itms-apps://аррӏе.com/app")).options.suspicious
    assert not (await process.create(alice, "itms-apps://apps.example.com/app")).options.suspicious
    for url in (f"itms-apps://{own.host}/x", f"itms-apps://{own.host}:443/x", "itms-apps://home.test/x"):
        with pytest.raises(errors.DestinationRefused, match="short link"):
            await process.create(alice, url)
    await process.create(alice, f"itms-apps://{own.host}:3000/x")


async def test_concurrent_changes_leave_the_schemes_of_one_of_them_whole(
    process: Process, other: Process, alice: Context
) -> None:
    own = await process.domains.default(alice)
    wanted = [tuple(sorted(f"app{number}x{part}" for part in range(SCHEMES_MAX))) for number in range(8)]
    answers = await asyncio.gather(
        *((process, other)[number % 2].domains.update(alice, own.id, "", each, NO_REQUEST)
          for number, each in enumerate(wanted))
    )  # fmt: skip
    assert [each.schemes for each in answers] == wanted
    [shown] = await process.domains.all(alice)
    assert shown.schemes in wanted
    assert await rows(process, alice, "domain_schemes") == SCHEMES_MAX


async def test_the_same_request_to_change_a_domain_has_one_effect_and_one_answer(
    process: Process, other: Process, alice: Context
) -> None:
    own, asked = await process.domains.default(alice), RequestKey("r1", b"digest")
    first = await process.domains.update(alice, own.id, "", ["spotify"], asked)
    await allow(process, alice, "fb")
    assert await other.domains.update(alice, own.id, "", ["spotify"], asked) == first
    assert [each.schemes for each in await process.domains.all(alice)] == [("fb",)]
    with pytest.raises(RequestIdReused):
        await process.domains.update(alice, own.id, "", ["ftp"], RequestKey("r1", b"other digest"))


async def test_an_answer_that_the_version_before_kept_for_a_domain_is_given_again(
    process: Process, alice: Context
) -> None:
    host, asked = f"go{alice.tenant}.example", RequestKey("r1", b"digest")
    async with process.database.tenant_tx(alice) as tx:
        await tx.answer(asked, Domain(7, alice.tenant, host, False, 0))
    assert await process.domains.create(alice, host, asked) == ChosenDomain(7, alice.tenant, host, False, 0)


async def test_a_creation_that_was_answered_is_answered_alike_after_its_scheme_is_taken_off(
    process: Process, alice: Context
) -> None:
    wanted, asked = Draft(options=Options(destination=TRACK)), RequestKey("r1", b"digest")
    await allow(process, alice, "spotify")
    link = await process.creation.create(alice, wanted, asked)
    await allow(process, alice)
    assert await process.creation.create(alice, wanted, asked) == link


async def test_what_is_remembered_of_hosts_says_nothing_of_schemes(process: Process, alice: Context) -> None:
    """Nor does what is left in Valkey, where a day later it would be of yesterday."""
    domain = await another(process, alice, "spotify")
    assert type(await process.domains.serving(domain.host)) is Domain
    left = json.loads(await process.redis.execute("GET", f"links:host/{domain.host}"))
    assert set(left) == {"id", "tenant", "host", "is_default", "created_ms"}


@pytest.mark.promise("LINKS-6", "LINKS-10")
async def test_callers_choose_the_schemes_of_their_domains_by_mask_and_of_nobody_elses(
    kafka_address: str, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """Over gRPC, from the domain that was made by itself to the redirect; a bad field is named as the caller wrote it."""
    await topics.create(kafka_address, TOPICS)
    async with serving(kafka_address, postgres_dsn, redis_url, tmp_path) as running:
        alice, bob = await running.tenant(), await running.tenant()

        async def update(caller: Context, domain: pb.Domain, *paths: str, request_id: str = "") -> pb.Domain:
            mask = field_mask_pb2.FieldMask(paths=paths)
            asked = pb.UpdateDomainRequest(domain=domain, update_mask=mask, request_id=request_id)
            return await rpc.call(running.stub.UpdateDomain, asked, caller)

        async def listed(caller: Context) -> list[pb.Domain]:
            return list((await rpc.call(running.stub.ListDomains, pb.ListDomainsRequest(), caller)).domains)

        [own] = await listed(alice)
        changed = await update(alice, pb.Domain(name=own.name, schemes=["Spotify", "fb", "spotify"]))
        assert changed == pb.Domain(name=own.name, host=own.host, is_default=True, schemes=["fb", "spotify"])
        assert await listed(alice) == [changed]
        link = await running.create(alice, destination=TRACK)
        resolve = pb.ResolveLinkRequest(code=link.code, domain=link.domain)
        assert (await rpc.call(running.stub.ResolveLink, resolve, Context())).location == TRACK
        assert await update(alice, pb.Domain(name=own.name, host=own.host.upper())) == changed
        assert await update(alice, pb.Domain(name=own.name)) == changed
        once = await update(alice, pb.Domain(name=own.name, schemes=["ftp"]), "schemes", request_id="r1")
        assert list(once.schemes) == ["ftp"]
        assert list((await update(alice, pb.Domain(name=own.name), "schemes")).schemes) == []
        assert await update(alice, pb.Domain(name=own.name, schemes=["ftp"]), "schemes", request_id="r1") == once
        assert list((await listed(alice))[0].schemes) == []
        assert list((await update(alice, pb.Domain(name=own.name, schemes=["x"]), "*")).schemes) == ["x"]
        added = pb.CreateDomainRequest(domain=pb.Domain(host=f"bücher{alice.tenant}.example", schemes=["FTP"]))
        kept = await rpc.call(running.stub.CreateDomain, added, alice)
        assert list(kept.schemes) == ["ftp"]
        assert await update(alice, pb.Domain(name=kept.name, host=added.domain.host)) == kept, "as its owner wrote it"
        assert await update(alice, pb.Domain(name=kept.name, host="other.example", schemes=["ftp"]), "schemes") == kept

        async def refused(domain: pb.Domain, *paths: str) -> tuple[type[kernel_errors.Error], list[str]]:
            with pytest.raises(kernel_errors.Error) as error:
                await update(alice, domain, *paths)
            return error.type, [each.field for each in error.value.fields]

        for body, paths, kind, field in (
            (pb.Domain(schemes=["a b"]), (), kernel_errors.Invalid, "domain.schemes[0]"),
            (pb.Domain(schemes=["a", "javascript"]), (), kernel_errors.Unprocessable, "domain.schemes[1]"),
            (pb.Domain(schemes=[f"a{n}" for n in range(21)]), (), kernel_errors.Invalid, "domain.schemes"),
            (pb.Domain(host="other.example"), (), kernel_errors.Invalid, "domain.host"),
            (pb.Domain(), ("nonsense",), kernel_errors.Invalid, "update_mask"),
            (pb.Domain(), ("schemes", "host"), kernel_errors.Invalid, "update_mask"),
            (pb.Domain(), ("*", "schemes"), kernel_errors.Invalid, "update_mask"),
        ):
            body.name = own.name
            assert await refused(body, *paths) == (kind, [field])
        created = pb.CreateDomainRequest(domain=pb.Domain(host="new.example", schemes=["a", "b", "c:"]))
        with pytest.raises(kernel_errors.Invalid) as bad:
            await rpc.call(running.stub.CreateDomain, created, alice)
        assert [each.field for each in bad.value.fields] == ["domain.schemes[2]"]
        for name in (own.name, "domains/1", "domains/x", "links/1", ""):
            with pytest.raises(kernel_errors.NotFound):
                await update(bob, pb.Domain(name=name, schemes=["mine"]))
        assert list((await listed(alice))[0].schemes) == ["x"]
