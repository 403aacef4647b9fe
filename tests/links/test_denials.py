"""Hosts that a tenant denies: which destinations an entry refuses, and that nothing else is touched by it."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.engines import topics
from groundswell.kernel import errors as kernel_errors
from groundswell.kernel import rpc
from groundswell.kernel.context import Context
from groundswell.kernel.errors import MESSAGE_LENGTH_MAX
from groundswell.kernel.idempotency import RequestIdReused, RequestKey
from groundswell.links import errors
from groundswell.links.model import denials, destinations
from groundswell.links.model.denials import PARENT_LABELS_MAX, DeniedHost
from groundswell.links.service.denials import DENIED_HOSTS_MAX, denied
from groundswell.links.store.denials import DenialStore
from groundswell.links.store.domains import DomainStore

from .conftest import NO_REQUEST, Process
from .test_creation import draft, outbox, rows
from .test_module import TOPICS, serving
from .test_redirects import forget, outcome

LONGEST = ".".join(["a" * 49] * 5)
"""A name that fits behind `*.` and is nearly as long as any."""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def deny(process: Process, context: Context, *hosts: str) -> None:
    for host in hosts:
        await process.denials.create(context, host, NO_REQUEST)


async def fill(process: Process, context: Context, entries: int) -> None:
    """Puts so many entries on the list at once."""
    await process.domains.default(context)
    async with process.database.tenant_tx(context) as tx:
        await tx.execute(
            "INSERT INTO denied_hosts (tenant_id, id, host, created_ms)"
            " SELECT $1, n, 'host' || n || '.many.example', 0 FROM generate_series(1, $2::bigint) AS n",
            context.tenant, entries,
        )  # fmt: skip


async def refused_by(process: Process, context: Context, destination: str) -> str:
    """The entry that the refusal names; empty when a link was made."""
    try:
        await process.create(context, destination)
    except errors.DestinationDenied as error:
        return error.message.partition("denied by your tenant's entry ")[2].removesuffix(".")
    return ""


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(
    ("entry", "destination"),
    [
        ("evil.example", "https://evil.example/x?y#z"),
        ("evil.example", "HTTP://EVIL.Example.:8080"),
        ("Evil.EXAMPLE.", "https://evil.example/"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("XN--BCHER-KVA.example", "https://BÜCHER。example/"),
        ("localhost", "http://localhost:3000/"),
        ("192.0.2.7", "http://3221225991/"),
        ("0xC0.0.0x207", "http://192.0.2.7./"),
        ("192.0.2.7", "http://[::ffff:c000:207]/"),
        ("[2001:DB8:0::1]", "http://[2001:db8::1]:8443/"),
        ("*.evil.example", "https://www.evil.example/"),
        ("*.evil.example", "https://a.b.c.evil.example/"),
        ("*.Bücher.Example.", "https://www.xn--bcher-kva.example./"),
        ("*.example", "https://evil.example/"),
        (f"*.{LONGEST}", f"https://b.{LONGEST}/"),
    ],
)
async def test_an_entry_refuses_its_host_or_those_below_it_however_either_is_spelled(
    process: Process, alice: Context, entry: str, destination: str
) -> None:
    assert await refused_by(process, alice, destination) == ""
    made = await process.denials.create(alice, entry, NO_REQUEST)
    assert await refused_by(process, alice, destination) == made.host
    assert denials.checked_entry(made.host) == made.host


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(
    ("entry", "destination"),
    [
        ("evil.example", "https://www.evil.example/"),
        ("evil.example", "https://notevil.example/"),
        ("evil.example", "https://good.example/?next=https://evil.example/"),
        ("*.evil.example", "https://evil.example/"),
        ("*.evil.example", "https://www.notevil.example/"),
        ("www.evil.example", "https://evil.example/"),
        ("192.0.2.7", "http://192.0.2.70/"),
        ("192.0.2.7", "http://192.0.2.7.example/"),
    ],
)
async def test_an_entry_refuses_no_other_host(process: Process, alice: Context, entry: str, destination: str) -> None:
    await deny(process, alice, entry)
    assert await refused_by(process, alice, destination) == ""


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        ".",
        "*.*.example",
        "www.*.example",
        "*evil.example",
        "*.192.0.2.7",
        "*.7",
        "*.[2001:db8::1]",
        "2001:db8::1",
        "[fe80::1%eth0]",
        "[evil.example]",
        "https://evil.example",
        "evil.example:443",
        "evil.example/",
        "user@evil.example",
        "evil example",
        "evil.example\n",
        "evil.example\0",
        "a..example",
        "300.1.1.1",
        "xn--\u0378.example",
        "*." + "a." * PARENT_LABELS_MAX + "example",
        "a." * 127 + "example",
        "ß" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_host_is_no_entry(entry: str) -> None:
    with pytest.raises(errors.DeniedHostInvalid) as refused:
        denials.checked_entry(entry)
    assert [field.field for field in refused.value.fields] == ["denied_host.host"]


def test_of_a_host_with_ever_so_many_parents_a_bounded_number_of_entries_is_looked_up() -> None:
    """The highest ones, since nobody can have made an entry of another."""
    host = destinations.compared(".".join(["a"] * 127))
    asked = denials.entries_denying(host)
    assert len(asked) == PARENT_LABELS_MAX + 1
    assert asked[1] == "*" + ".a" * PARENT_LABELS_MAX == denials.checked_entry(asked[1])


async def test_a_list_of_any_length_costs_one_query_a_batch_which_looks_at_keys(
    process: Process, alice: Context
) -> None:
    await fill(process, alice, DENIED_HOSTS_MAX - 1)
    await deny(process, alice, "*.evil.example")
    urls = [f"https://host{number}.{'evil' if number == 700 else 'good'}.example/" for number in range(1_000)]
    asked: list[asyncpg.LoggedQuery] = []
    async with process.database.tenant_tx(alice) as tx:
        with tx._connection.query_logger(asked.append):
            assert await denied(tx, urls) == [(700, "*.evil.example")]
    [one] = asked
    async with process.database.tenant_tx(alice) as tx:
        plan = [str(row[0]) for row in await tx.fetch(f"EXPLAIN {one.query}", *one.args)]
    assert [line for line in plan if "Index Cond" in line and "host = asked.host" in line], plan


async def test_the_closest_of_several_entries_is_named(process: Process, alice: Context) -> None:
    for entry in ("*.example", "*.evil.example", "www.evil.example"):
        await deny(process, alice, entry)
        assert await refused_by(process, alice, "https://www.evil.example/") == entry


@pytest.mark.promise("LINKS-6")
async def test_the_refusal_names_the_longest_entry_whole_and_the_field(process: Process, alice: Context) -> None:
    await deny(process, alice, f"*.{LONGEST}")
    with pytest.raises(errors.DestinationDenied) as refused:
        await process.create(alice, f"https://b.{LONGEST}/")
    [field] = refused.value.fields
    assert (field.field, field.description) == ("link.destination", refused.value.message)
    assert f"denied by your tenant's entry *.{LONGEST}." in refused.value.message
    assert len(refused.value.message) < MESSAGE_LENGTH_MAX


@pytest.mark.promise("LINKS-6")
async def test_another_tenants_entries_count_for_nothing(process: Process, alice: Context, bob: Context) -> None:
    """And are not shown, not taken off and not in the way."""
    theirs = await process.denials.create(bob, "evil.example", NO_REQUEST)
    assert await refused_by(process, alice, "https://evil.example/") == ""
    assert await process.denials.page(alice, theirs.id + 1, 10) == []
    with pytest.raises(errors.DeniedHostNotFound):
        await process.denials.delete(alice, theirs.id, NO_REQUEST)
    await deny(process, alice, "evil.example")
    assert await refused_by(process, bob, "https://evil.example/") == "evil.example"


@pytest.mark.promise("LINKS-6")
async def test_a_batch_names_the_link_whose_host_is_denied_and_is_not_made(process: Process, alice: Context) -> None:
    await deny(process, alice, "*.evil.example")
    drafts = [draft(destination=f"https://{host}/") for host in ("evil.example", "good.example", "www.evil.example")]
    with pytest.raises(errors.DestinationDenied) as refused:
        await process.creation.create_batch(alice, drafts, NO_REQUEST)
    [field] = refused.value.fields
    assert field.field == "links[2].destination"
    assert "*.evil.example" in field.description
    assert await rows(process, alice, "links") == 0
    assert await outbox(process, alice) == []
    assert len(await process.creation.create_batch(alice, drafts[:2], NO_REQUEST)) == 2


@pytest.mark.promise("LINKS-6")
async def test_find_if_exists_gives_back_no_link_to_a_denied_host(process: Process, alice: Context) -> None:
    wanted = draft(destination="https://evil.example/")
    await process.creation.create(alice, wanted, NO_REQUEST, find_if_exists=True)
    await deny(process, alice, "evil.example")
    with pytest.raises(errors.DestinationDenied):
        await process.creation.create(alice, wanted, NO_REQUEST, find_if_exists=True)


@pytest.mark.promise("LINKS-6")
async def test_a_link_is_led_to_no_denied_host_and_one_that_leads_there_is_left_as_it_is(
    process: Process, alice: Context
) -> None:
    """It redirects, and what else it has may be changed, also by who says its destination again."""
    there = await process.create(alice, "https://evil.example/", title="x")
    elsewhere = await process.create(alice)
    await deny(process, alice, "evil.example")
    with pytest.raises(errors.DestinationDenied) as refused:
        await process.change(alice, elsewhere, destination="https://EVIL.example./other")
    assert [field.field for field in refused.value.fields] == ["link.destination"]
    assert await process.links.get(alice, elsewhere.id) == elsewhere
    assert (await process.change(alice, elsewhere, destination="https://good.example/")).version == 2
    await forget(process, there)
    assert await outcome(process, there.domain, there.code) == "https://evil.example/"
    again = await process.change(alice, there, title="y", destination="https://evil.example/")
    assert (again.options.title, again.options.destination) == ("y", "https://evil.example/")
    with pytest.raises(errors.DestinationDenied):
        await process.change(alice, there, destination="https://evil.example/other")


@pytest.mark.promise("LINKS-6")
async def test_an_entry_that_is_taken_off_denies_nothing_any_more(
    process: Process, other: Process, alice: Context
) -> None:
    """In every process at once, and it may be put on the list again."""
    await deny(process, alice, "*.evil.example")
    made = await process.denials.create(alice, "evil.example", NO_REQUEST)
    assert await refused_by(other, alice, "https://evil.example/") == "evil.example"
    await process.denials.delete(alice, made.id, NO_REQUEST)
    assert await refused_by(other, alice, "https://evil.example/") == ""
    assert await refused_by(other, alice, "https://www.evil.example/") == "*.evil.example"
    with pytest.raises(errors.DeniedHostNotFound):
        await process.denials.delete(alice, made.id, NO_REQUEST)
    await deny(process, alice, "evil.example")
    assert await refused_by(other, alice, "https://evil.example/") == "evil.example"


async def test_a_host_is_on_the_list_once_however_it_is_spelled(
    process: Process, other: Process, alice: Context
) -> None:
    spellings = ["evil.example", "EVIL.example", "evil.example.", "Evil.Example"] * 4
    made = await asyncio.gather(
        *(
            (process, other)[number % 2].denials.create(alice, host, NO_REQUEST)
            for number, host in enumerate(spellings)
        ),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in made) == ["DeniedHost"] + ["DeniedHostExists"] * 15
    assert await rows(process, alice, "denied_hosts") == 1


async def test_the_same_request_to_deny_or_to_allow_has_one_effect_and_one_answer(
    process: Process, other: Process, alice: Context
) -> None:
    asked, taken = RequestKey("r1", b"digest"), RequestKey("r2", b"digest")
    made = await process.denials.create(alice, "evil.example", asked)
    assert await other.denials.create(alice, "evil.example", asked) == made
    with pytest.raises(RequestIdReused):
        await process.denials.create(alice, "other.example", RequestKey("r1", b"other digest"))
    for each in (process, other):
        await each.denials.delete(alice, made.id, taken)
    assert await rows(process, alice, "denied_hosts") == 0


async def test_a_creation_that_was_answered_is_answered_alike_after_its_host_is_denied(
    process: Process, alice: Context
) -> None:
    request = RequestKey("r1", b"digest")
    wanted = draft(destination="https://evil.example/")
    made = await process.creation.create(alice, wanted, request)
    await deny(process, alice, "evil.example")
    assert await process.creation.create(alice, wanted, request) == made


async def test_a_tenant_denies_no_more_hosts_than_its_bound_however_many_are_denied_at_once(
    process: Process, other: Process, alice: Context, bob: Context
) -> None:
    """The last entry is there but not committed when five more are asked for; each waits for it, and none is counted without it."""
    await fill(process, alice, DENIED_HOSTS_MAX - 1)
    async with process.database.tenant_tx(alice) as tx:
        await DomainStore(tx).hold()
        await DenialStore(tx).add(DeniedHost(DENIED_HOSTS_MAX, alice.tenant, "last.example", 0))
        more = [
            asyncio.create_task(each.denials.create(alice, f"more{number}.example", NO_REQUEST))
            for number, each in enumerate((process, other, process, other, process))
        ]
        async with asyncio.timeout(15):
            while await tx.fetchval(WAITING) < len(more) and not any(each.done() for each in more):
                await asyncio.sleep(0.02)
    made = await asyncio.gather(*more, return_exceptions=True)
    assert [type(each) for each in made] == [errors.TooManyDeniedHosts] * len(more)
    assert await rows(process, alice, "denied_hosts") == DENIED_HOSTS_MAX
    await deny(process, bob, "last.example")


async def test_callers_deny_list_and_allow_hosts_by_name(
    kafka_address: str, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """Over gRPC: pages newest first whose tokens fit no other tenant, and a name of nobody's entry is one of another tenant's."""
    await topics.create(kafka_address, TOPICS)
    async with serving(kafka_address, postgres_dsn, redis_url, tmp_path) as running:
        alice, bob = await running.tenant(), await running.tenant()
        for number in range(5):
            asked = pb.CreateDeniedHostRequest(denied_host=pb.DeniedHost(host=f"*.EVIL{number}.example"))
            last = await rpc.call(running.stub.CreateDeniedHost, asked, alice)
        assert (last.host, last.HasField("create_time")) == ("*.evil4.example", True)
        first = await rpc.call(running.stub.ListDeniedHosts, pb.ListDeniedHostsRequest(page_size=3), alice)
        assert first.denied_hosts[0] == last
        rest = pb.ListDeniedHostsRequest(page_size=3, page_token=first.next_page_token)
        with pytest.raises(kernel_errors.Invalid):
            await rpc.call(running.stub.ListDeniedHosts, rest, bob)
        second = await rpc.call(running.stub.ListDeniedHosts, rest, alice)
        listed = [each.host for page in (first, second) for each in page.denied_hosts]
        assert listed == [f"*.evil{number}.example" for number in (4, 3, 2, 1, 0)]
        assert second.next_page_token == ""
        with pytest.raises(kernel_errors.Unprocessable, match=r"\*\.evil4\.example"):
            await running.create(alice, destination="https://www.evil4.example/")
        for name in (last.name, f"deniedHosts/{last.create_time.ToMilliseconds()}", "deniedHosts/x", "links/1", ""):
            with pytest.raises(kernel_errors.NotFound):
                await rpc.call(running.stub.DeleteDeniedHost, pb.DeleteDeniedHostRequest(name=name), bob)
        await rpc.call(running.stub.DeleteDeniedHost, pb.DeleteDeniedHostRequest(name=last.name), alice)
        await running.create(alice, destination="https://www.evil4.example/")
