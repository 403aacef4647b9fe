"""Domains: a tenant's own, made once however many ask at once; the home host; and what a process remembers of hosts."""

import asyncio

import pytest

from groundswell.kernel.context import Context
from groundswell.kernel.errors import MESSAGE_LENGTH_MAX
from groundswell.links import errors
from groundswell.links.model.addresses import Addresses
from groundswell.links.model.links import Domain
from groundswell.links.service.domains import DOMAINS_MAX

from .conftest import ADDRESSES, NO_REQUEST, Process, Start, new_tenant


@pytest.mark.promise("LINKS-1")
async def test_a_tenants_own_domain_is_made_once_by_whoever_needs_it_first(
    process: Process, other: Process, alice: Context
) -> None:
    """The news of the tenant and its first links, at once in two processes."""
    slug = await process.domains._slug_of(alice.tenant)
    assert slug is not None
    made = await asyncio.gather(
        *(each.domains.make_default(alice.tenant, slug) for each in (process, other) for _ in range(5)),
        *(each.domains.default(alice) for each in (process, other) for _ in range(5)),
    )
    assert len({domain.id for domain in made}) == 1
    assert made[0].host == f"{slug}.short.test"
    assert [domain.id for domain in await process.domains.all(alice)] == [made[0].id]


async def test_a_link_of_a_tenant_that_is_not_heard_of_yet_is_to_be_asked_for_again(process: Process) -> None:
    with pytest.raises(errors.DomainNotReady) as refused:
        await process.create(Context(4_711, "apiKeys/1", frozenset({"*"})))
    assert refused.value.retry_after_s


async def test_the_home_tenant_answers_on_the_home_host_with_its_own_domains_name(
    process: Process, slugs: dict[int, str]
) -> None:
    """The answer names the link's own domain, so that its purge reaches what was cached under the other host."""
    demo = new_tenant(slugs)
    slugs[demo.tenant] = "demo"
    link = await process.create(demo)
    assert link.domain == "demo.short.test"
    found = await process.redirects.resolve("home.test", link.code)
    assert (found.target.link, found.domain) == (link.id, "demo.short.test")
    assert (await process.links.lookup(demo, "home.test", link.code)).id == link.id


async def test_a_host_that_was_unknown_serves_as_soon_as_it_is_created(
    process: Process, start: Start, alice: Context
) -> None:
    """At once where it is created, within seconds elsewhere."""
    host = f"go{alice.tenant}.example"
    async with start() as other:
        for each in (process, other):
            assert await each.domains.serving(host) is None
        made = await process.domains.create(alice, host, NO_REQUEST)
        led = Domain(made.id, alice.tenant, host, False, made.created_ms)
        assert await process.domains.serving(host) == led
        other.clock.ahead_ms = 5_001
        assert await other.domains.serving(host) == led


async def test_a_text_that_is_longer_than_any_host_is_no_domain_and_is_not_remembered(
    process: Process, alice: Context
) -> None:
    """Callers say it, and a thousand of a megabyte each would be a gigabyte."""
    long = "a" * 1_000_000 + ".example"
    assert await process.domains.serving(long) is None
    with pytest.raises(errors.DomainUnknown) as refused:
        await process.domains.of(alice, long)
    assert len(refused.value.message) <= MESSAGE_LENGTH_MAX
    assert not [host for host in process.domains._unknown_until_s if len(host) > 253]


async def test_a_tenant_has_no_more_domains_than_a_list_shows_however_many_are_made_at_once(
    process: Process, alice: Context
) -> None:
    await process.domains.default(alice)
    async with process.database.tenant_tx(alice) as tx:
        await tx.execute(
            "INSERT INTO domains (id, tenant_id, host, is_default, created_ms)"
            " SELECT n, $1, n || '.many.example', false, 0 FROM generate_series($2::bigint + 1, $2 + $3) AS n",
            alice.tenant, process.clock.now_ms() << 20, DOMAINS_MAX - 2,
        )  # fmt: skip
    hosts = [f"last{number}-{alice.tenant}.example" for number in range(5)]
    made = await asyncio.gather(
        *(process.domains.create(alice, host, NO_REQUEST) for host in hosts), return_exceptions=True
    )
    assert sum(isinstance(each, errors.TooManyDomains) for each in made) == 4
    assert len(await process.domains.all(alice)) == DOMAINS_MAX


def test_short_urls_leave_the_schemes_own_port_out() -> None:
    assert ADDRESSES.short_url("a.short.test", "x") == "http://a.short.test:8080/x"
    assert Addresses("sho.rt", "demo", (), "https", 443).short_url("a.sho.rt", "x") == "https://a.sho.rt/x"
