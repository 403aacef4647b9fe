"""Creating links: codes of one's own and generated ones, replays, batches, and what is never left half done."""

import asyncio
import itertools

import pytest

from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestIdReused, RequestKey
from groundswell.links import errors
from groundswell.links.model import codes
from groundswell.links.model.links import Draft, Link, Options
from groundswell.links.service.codes import BLOCK_NUMBERS, Codes, order_of
from groundswell.links.store.links import LinkStore

from .conftest import KEY, NO_REQUEST, Process, new_tenant
from .test_redirects import forget, outcome

DESTINATION = "https://example.com/"


def draft(code: str = "", destination: str = DESTINATION) -> Draft:
    return Draft(options=Options(destination=destination), code=code)


async def rows(process: Process, context: Context, table: str) -> int:
    async with process.database.tenant_tx(context) as tx:
        return int(await tx.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", context.tenant))


async def outbox(process: Process, context: Context) -> list[str]:
    """Types of the tenant's events that wait, oldest first."""
    async with process.database.platform_tx() as tx:
        found = await tx.fetch(
            "SELECT headers->>'ce_type' AS type FROM outbox WHERE headers->>'ce_tenantid' = $1 ORDER BY seq",
            str(context.tenant),
        )
    return [row["type"].rpartition(".")[2] for row in found]


@pytest.mark.promise("LINKS-9")
async def test_what_makes_an_answer_old_goes_before_the_links_that_others_make(
    process: Process, alice: Context
) -> None:
    """Goal: a batch of new links keeps no old target anywhere. Nobody can have kept an answer of a link that is new."""
    made = await process.create(alice)
    await process.create(alice, code="own")
    await process.change(alice, made, destination="https://example.org/")
    await process.change(alice, made, active=False)
    await process.links.delete(alice, made.id, NO_REQUEST)
    async with process.database.platform_tx() as tx:
        rows = await tx.fetch(
            "SELECT urgent FROM outbox WHERE headers->>'ce_tenantid' = $1 ORDER BY seq", str(alice.tenant)
        )
    assert await outbox(process, alice) == ["LinkCreated", "LinkCreated", "LinkUpdated", "LinkDisabled", "LinkDeleted"]
    assert [row["urgent"] for row in rows] == [False, False, True, True, True]


@pytest.mark.promise("LINKS-1", "LINKS-10")
async def test_a_link_without_a_code_gets_seven_base62_characters_and_its_id_carries_its_shard(
    process: Process, alice: Context
) -> None:
    made = await process.create(alice)
    assert len(made.code) == 7
    assert set(made.code) <= set(codes.ALPHABET)
    assert (made.id >> 10) & 8191 == codes.shard_of(made.domain_id, made.code)
    assert await process.links.get(alice, made.id) == made
    assert len((await process.create(alice, code_length=8)).code) == 8
    with pytest.raises(errors.CodeLengthInvalid):
        await process.create(alice, code_length=5)


@pytest.mark.promise("LINKS-7")
async def test_of_many_concurrent_claims_of_a_code_one_wins_and_the_others_leave_no_rows(
    process: Process, other: Process, alice: Context
) -> None:
    """64 claims from two processes at once, five times."""
    for code in (f"claim-{number}" for number in range(5)):
        claims = [
            (process if number % 2 else other).create(alice, f"https://example.com/{number}", code=code, tags=("a",))
            for number in range(64)
        ]
        results = await asyncio.gather(*claims, return_exceptions=True)
        assert sorted(type(each).__name__ for each in results) == ["CodeTaken"] * 63 + ["Link"]
    for table in ("links", "links_by_owner", "link_finds", "link_tags"):
        assert await rows(process, alice, table) == 5, table
    assert await outbox(process, alice) == ["LinkCreated"] * 5


@pytest.mark.promise("LINKS-7")
async def test_codes_differ_by_case_and_by_domain(process: Process, alice: Context, bob: Context) -> None:
    lower, upper = await process.create(alice, code="summer"), await process.create(alice, code="Summer")
    foreign = await process.create(bob, code="summer")
    assert len({lower.id, upper.id, foreign.id}) == 3
    with pytest.raises(errors.CodeTaken):
        await process.create(alice, code="summer")


@pytest.mark.promise("LINKS-2")
async def test_a_generated_code_that_is_somebodys_own_is_passed_over(
    process: Process, other: Process, alice: Context
) -> None:
    """Both processes hold the same secret: what the second would draw is claimed through the first."""
    domain = await process.domains.default(alice)
    order = order_of(KEY, domain.id, 7)
    await process.create(alice, code=codes.spelled(order(0), 7))
    assert (await other.create(alice)).code == codes.spelled(order(1), 7)


@pytest.mark.promise("LINKS-2")
async def test_processes_never_draw_the_same_code(process: Process, other: Process, alice: Context) -> None:
    """Both cross the ends of their blocks of 10,000 numbers."""
    domain = await process.domains.default(alice)
    drawn = await asyncio.gather(*(each.codes.draw(domain, 7, 4_000) for each in (process, other) for _ in range(4)))
    assert len({code for part in drawn for code in part}) == 32_000


async def test_a_domain_whose_codes_are_drawn_keeps_its_block_while_others_come_and_go(
    process: Process, slugs: dict[int, str]
) -> None:
    """Goal: no busy domain loses a block for each domain that is new. Method: codes say by their order which numbers they were made of."""
    busy, *others = [await process.domains.default(new_tenant(slugs)) for _ in range(5)]
    drawing, order = Codes(process.database, KEY, lanes_max=2), order_of(KEY, busy.id, 7)
    drawn = await drawing.draw(busy, 7, 1)
    for other in others:
        await drawing.draw(other, 7, 1)
        drawn += await drawing.draw(busy, 7, 1)
    of_one_block = (codes.spelled(order(number), 7) for number in range(BLOCK_NUMBERS))
    assert drawn == list(itertools.islice(filter(codes.presentable, of_one_block), len(drawn)))


@pytest.mark.promise("LINKS-8")
async def test_find_if_exists_gives_back_the_owners_lasting_link_with_the_same_options(
    process: Process, alice: Context
) -> None:
    first = await process.create(alice, title="x")
    again = Draft(options=Options(destination=DESTINATION, title="x"))
    assert await process.creation.create(alice, again, NO_REQUEST, find_if_exists=True) == first
    assert (await process.creation.create(alice, again, NO_REQUEST)).id != first.id
    assert (await process.creation.create(alice, draft(), NO_REQUEST, find_if_exists=True)).id != first.id
    colleague = Context(alice.tenant, "apiKeys/9", alice.permissions)
    assert (await process.creation.create(colleague, again, NO_REQUEST, find_if_exists=True)).id != first.id


@pytest.mark.promise("LINKS-8")
async def test_find_if_exists_passes_over_links_that_ended(process: Process, alice: Context) -> None:
    """Disabled, changed to something else, deleted, expired."""
    seen = set()
    options = Options(destination=DESTINATION, expires_ms=process.clock.now_ms() + 3_600_000)

    async def find() -> Link:
        return await process.creation.create(alice, Draft(options=options), NO_REQUEST, find_if_exists=True)

    for end in ("disable", "change", "delete", "expire"):
        link = await find()
        assert link.id not in seen
        assert (await find()).id == link.id
        seen.add(link.id)
        if end == "disable":
            await process.change(alice, link, active=False)
        elif end == "change":
            await process.change(alice, link, title="another")
        elif end == "delete":
            await process.links.delete(alice, link.id, NO_REQUEST)
        else:
            process.clock.ahead_ms += 3_600_001
    assert (await find()).id not in seen


@pytest.mark.promise("LINKS-8")
async def test_concurrent_finds_make_one_link(process: Process, other: Process, alice: Context) -> None:
    found = await asyncio.gather(
        *(
            each.creation.create(alice, draft(), NO_REQUEST, find_if_exists=True)
            for each in (process, other)
            for _ in range(10)
        )
    )
    assert len({each.id for each in found}) == 1


@pytest.mark.promise("LINKS-2")
async def test_the_same_request_twice_makes_one_link_and_one_event(
    process: Process, other: Process, alice: Context
) -> None:
    request = RequestKey("r1", b"digest")
    first = await process.creation.create(alice, draft(), request)
    assert await other.creation.create(alice, draft(), request) == first
    assert await outbox(process, alice) == ["LinkCreated"]
    with pytest.raises(RequestIdReused):
        await process.creation.create(alice, draft("another"), RequestKey("r1", b"other digest"))
    batch = RequestKey("r2", b"digest")
    made = await process.creation.create_batch(alice, [draft(), draft("own-one")], batch)
    assert await other.creation.create_batch(alice, [draft(), draft("own-one")], batch) == made


@pytest.mark.promise("LINKS-9")
async def test_a_creation_that_is_repeated_does_not_bring_back_what_was_changed_since(
    process: Process, alice: Context
) -> None:
    """Valkey holds nothing of the link any more, so no version fences its first destination out."""
    request, finding = RequestKey("r1", b"digest"), RequestKey("r2", b"digest")
    link = await process.creation.create(alice, draft("summer"), request)
    assert await process.creation.create(alice, draft("summer"), finding, find_if_exists=True) == link
    await process.links.delete(alice, link.id, NO_REQUEST)
    for repeated, find in ((request, False), (finding, True)):
        await forget(process, link)
        await process.creation.create(alice, draft("summer"), repeated, find_if_exists=find)
        assert await outcome(process, link.domain, link.code) == "LinkNotFound"


@pytest.mark.promise("LINKS-2")
async def test_a_batch_is_made_whole_or_not_at_all(process: Process, alice: Context) -> None:
    await process.create(alice, code="taken")
    made = await process.creation.create_batch(alice, [draft() for _ in range(1_000)], NO_REQUEST)
    assert len({link.code for link in made}) == len({link.id for link in made}) == 1_000
    assert await outbox(process, alice) == ["LinkCreated"] * 1_001
    for bad, kind in (("taken", errors.CodeTaken), ("no", errors.CodeInvalid), ("healthz", errors.CodeReserved)):
        with pytest.raises(kind) as refused:
            await process.creation.create_batch(alice, [draft(), draft("free"), draft(bad)], NO_REQUEST)
        assert refused.value.fields[0].field == "links[2].code"
    with pytest.raises(errors.CodeTaken):
        await process.creation.create_batch(alice, [draft("twice"), draft("twice")], NO_REQUEST)
    for size in (0, 1_001):
        with pytest.raises(errors.BatchSizeInvalid):
            await process.creation.create_batch(alice, [draft()] * size, NO_REQUEST)
    assert await rows(process, alice, "links") == 1_001


@pytest.mark.promise("LINKS-6")
async def test_a_destination_on_the_platform_or_a_domain_of_ones_own_is_refused(
    process: Process, alice: Context, bob: Context
) -> None:
    """Own domain, another tenant's under the platform's, one there that no tenant has yet, and the same host on another port."""
    await process.domains.create(alice, "go.alice.example", NO_REQUEST)
    theirs = await process.domains.default(bob)
    for url in (
        f"http://{theirs.host}:8080/x",
        "https://GO.alice.example./x",
        "http://nobody.short.test/",
        "http://home.test:8080/",
    ):
        with pytest.raises(errors.DestinationRefused, match="short link"):
            await process.create(alice, url)
    await process.create(alice, "http://home.test:3000/")


@pytest.mark.promise("LINKS-6")
async def test_a_tenants_links_make_no_loop_in_whatever_order_they_and_their_domains_are_made(
    process: Process, other: Process, alice: Context
) -> None:
    """The first leads to a host that is nobody's yet; once it is hers, nothing on it leads back, whether made so or changed so later."""
    first = await process.create(alice, f"https://go{alice.tenant}.example/second")
    back = f"http://{first.domain}:8080/{first.code}"
    await other.domains.create(alice, f"go{alice.tenant}.example", NO_REQUEST)
    with pytest.raises(errors.DestinationRefused, match="short link"):
        await other.create(alice, back, domain=f"go{alice.tenant}.example", code="second")
    second = await other.create(alice, domain=f"go{alice.tenant}.example", code="second")
    with pytest.raises(errors.DestinationRefused, match="short link"):
        await other.change(alice, second, destination=back)
    with pytest.raises(errors.DestinationRefused, match="short link"):
        await process.change(alice, first, destination=f"{first.options.destination}?again")


@pytest.mark.promise("LINKS-6")
async def test_whoever_claims_a_host_forbids_it_to_nobody_else(process: Process, alice: Context, bob: Context) -> None:
    """No claim has to be proven: anybody may claim the site that others' links lead to."""
    link = await process.create(alice, f"https://video{alice.tenant}.example/1")
    await process.domains.create(bob, f"video{alice.tenant}.example", NO_REQUEST)
    await process.create(alice, f"https://video{alice.tenant}.example/2")
    await process.change(alice, link, destination=f"https://video{alice.tenant}.example/3")


@pytest.mark.promise("LINKS-7")
async def test_a_deleted_links_code_is_nobodys_for_ninety_days(process: Process, alice: Context) -> None:
    first = await process.create(alice, code="summer", tags=("a",))
    await process.links.delete(alice, first.id, NO_REQUEST)
    with pytest.raises(errors.LinkNotFound):
        await process.links.get(alice, first.id)
    with pytest.raises(errors.CodeTaken):
        await process.create(alice, code="summer")
    assert await outcome(process, first.domain, "summer") == "LinkNotFound"
    process.clock.ahead_ms = 90 * 86_400_000 + 1
    again = await process.create(alice, "https://example.org/", code="summer")
    assert again.id != first.id
    assert await outcome(process, first.domain, "summer") == "https://example.org/", "Valkey still knew it as deleted"
    assert await process.links.get(alice, again.id) == again
    async with process.database.tenant_tx(alice) as tx:
        assert await LinkStore(tx).get(first.id) is None
