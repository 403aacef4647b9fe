"""The whole module, as a process runs it: calls over gRPC, events in and out over Kafka, records in Valkey."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from groundswell.api.analytics.v1 import analytics_events_pb2
from groundswell.api.gateway.v1 import edge_pb2
from groundswell.api.links.v1 import links_events_pb2 as events_pb
from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.api.links.v1 import links_pb2_grpc
from groundswell.api.tenancy.v1 import tenancy_events_pb2, tenancy_pb2
from groundswell.engines import ports, topics
from groundswell.kernel import access, bus, errors, ids, pagination, redis, rpc
from groundswell.kernel.bus.events import headers_of, incoming, wire_headers
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources
from groundswell.links.module import links as links_module

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOPICS = Path(__file__).parents[2] / "protos" / "topics"
DESTINATION = "https://example.com/"
Call = Callable[..., Awaitable[Message]]


@dataclass
class Running:
    """A running module, a stub to call it and what its events say."""

    stub: links_pb2_grpc.LinkServiceStub
    producer: AIOKafkaProducer
    events: AIOKafkaConsumer
    valkey: redis.Redis

    async def tell(self, topic: str, key: str, message: Message, tenant: int) -> None:
        """Publishes an event as its owner would."""
        event = bus.Outgoing(topic, key, message)
        headers = wire_headers(headers_of(event, secrets.randbits(60), tenant))
        await self.producer.send_and_wait(topic, message.SerializeToString(), key=key.encode(), headers=headers)

    async def tenant(self) -> Context:
        """Somebody in a new tenant that tenancy has told of."""
        tenant = secrets.randbits(40)
        message = tenancy_pb2.Tenant(name=f"tenants/{tenant}", slug=f"t{tenant}", revision=1)
        await self.tell("tenancy.events.v1", str(tenant), tenancy_events_pb2.TenantCreated(tenant=message), tenant)
        caller = Context(tenant, f"apiKeys/{tenant}", frozenset({"*"}))
        await until(lambda: self._has_domain(caller))
        return caller

    async def _has_domain(self, caller: Context) -> bool:
        try:
            await rpc.call(self.stub.ListDomains, pb.ListDomainsRequest(), caller)
        except errors.Unavailable:
            return False
        return True

    async def create(self, caller: Context, **fields: object) -> pb.Link:
        link = pb.Link(**({"destination": DESTINATION} | fields))  # type: ignore[arg-type]  # each test names them rightly
        return await rpc.call(self.stub.CreateLink, pb.CreateLinkRequest(link=link), caller)

    async def update(self, caller: Context, link: pb.Link, *paths: str) -> pb.Link:
        request = pb.UpdateLinkRequest(link=link, update_mask=field_mask_pb2.FieldMask(paths=paths))
        return await rpc.call(self.stub.UpdateLink, request, caller)

    async def heard(self, link: str) -> bus.Incoming:
        """The next event of the link."""
        async with asyncio.timeout(10):
            while True:
                event = incoming(await self.events.getone())
                if event.key == link.partition("/")[2]:
                    return event


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    kafka_address: str, postgres_dsn: str, redis_url: str, folder: Path, **more: str
) -> AsyncIterator[Running]:
    """The module on these engines; `more` is added to its environment."""
    address = f"127.0.0.1:{ports.draw(1)[0]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "REDIS_URL": redis_url,
        "GROUNDSWELL_DATA": str(folder),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "LINKS_BASE_DOMAIN": "short.test",
        "GATEWAY_ADDRESS": "127.0.0.1:8080",
    } | more

    async def check(secret: str) -> access.Credential:
        raise access.InvalidCredential

    async with Resources.open(environment) as resources, links_module(resources) as module:
        gate, verifier = resources.tenant_gate(), access.Verifier(check)
        async with rpc.serve(module.servicers, address, resources.internal_key, verifier, gate):
            tasks = [asyncio.create_task(_run(task)) for task in module.tasks.values()]
            events = AIOKafkaConsumer("links.events.v1", bootstrap_servers=kafka_address, fetch_max_wait_ms=20)
            await events.start()
            await events.seek_to_end()
            channel = rpc.channel(address)
            stub = links_pb2_grpc.LinkServiceStub(channel)
            yield Running(stub, resources.producer(), events, await resources.redis())
            assert not [task for task in tasks if task.done()]
            await channel.close()
            await events.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _run(task: Callable[[], Awaitable[None]]) -> None:
    await task()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    kafka_address: str, postgres_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    await topics.create(kafka_address, TOPICS)
    async with serving(kafka_address, postgres_dsn, redis_url, tmp_path_factory.mktemp("links")) as module:
        yield module


@pytest.mark.promise("LINKS-10")
async def test_a_link_of_a_new_tenant_is_created_shown_listed_and_followed(running: Running) -> None:
    alice = await running.tenant()
    [domain] = (await rpc.call(running.stub.ListDomains, pb.ListDomainsRequest(), alice)).domains
    assert (domain.host, domain.is_default) == (f"t{alice.tenant}.short.test", True)
    made = await running.create(alice, title="A title", tags=["b", "a"], max_visits=0)
    assert made.short_url == f"http://{domain.host}:8080/{made.code}"
    assert (made.owner, made.redirect_status, made.HasField("disabled"), list(made.tags)) == (
        alice.actor,
        302,
        True,
        ["b", "a"],
    )
    assert await rpc.call(running.stub.GetLink, pb.GetLinkRequest(name=made.name), alice) == made
    assert await rpc.call(running.stub.LookupLink, pb.LookupLinkRequest(code=made.code), alice) == made
    listed = await rpc.call(running.stub.ListLinks, pb.ListLinksRequest(), alice)
    assert list(listed.links) == [made]
    found = await rpc.call(
        running.stub.ResolveLink, pb.ResolveLinkRequest(code=made.code, domain=domain.host), Context()
    )
    assert (found.location, found.redirect_status, found.link_id, found.tenant_id) == (
        DESTINATION, 302, int(made.name.partition("/")[2]), alice.tenant,
    )  # fmt: skip
    assert (found.domain, found.code) == (domain.host, made.code)
    assert not found.HasField("cache_ttl"), "a link without an end may be served stale while links is away"


@pytest.mark.promise("LINKS-9")
async def test_events_tell_every_change_in_order_and_name_the_answer_that_they_make_old(running: Running) -> None:
    """And whoever hears one finds Valkey already corrected."""
    alice = await running.tenant()
    link = await running.create(alice, code="summer")
    await running.update(alice, pb.Link(name=link.name, title="x"))
    await running.update(alice, pb.Link(name=link.name, disabled=True))
    await rpc.call(running.stub.DeleteLink, pb.DeleteLinkRequest(name=link.name), alice)
    kinds = (events_pb.LinkCreated, events_pb.LinkUpdated, events_pb.LinkDisabled, events_pb.LinkDeleted)
    for version, kind in enumerate(kinds, 1):
        event = await running.heard(link.name)
        stored = await running.valkey.execute("GET", f"links:{link.domain}:{link.code}")
        assert int(stored.partition(b"|")[0]) >= version
        assert event.is_a(kind)
        told: events_pb.LinkUpdated = event.parse(kind)
        assert (told.version, told.link.name, event.tenant) == (version, link.name, alice.tenant)
        assert (told.link.domain, told.link.code, told.link.short_url) == (link.domain, link.code, link.short_url)
        assert list(cast(Any, kind).DESCRIPTOR.GetOptions().Extensions[edge_pb2.purges]) == [
            "link/{link.domain}/{link.code}"
        ]


@pytest.mark.promise("LINKS-9")
async def test_who_kept_an_answer_is_told_that_its_record_was_corrected_late(running: Running) -> None:
    """An older record is still there when the event of the change is heard."""
    alice = await running.tenant()
    link = await running.create(alice)
    await running.valkey.execute("SET", f"links:{link.domain}:{link.code}", "1|[0,null]")
    message = events_pb.LinkUpdated(link=link, version=2)
    await running.tell("links.events.v1", link.name.partition("/")[2], message, alice.tenant)
    event = await running.heard(f"{link.name}/corrected")
    told: events_pb.LinkCorrected = event.parse(events_pb.LinkCorrected)
    assert (event.tenant, told.domain, told.code) == (alice.tenant, link.domain, link.code)


async def test_a_patch_changes_what_its_mask_names_or_else_what_its_body_holds(running: Running) -> None:
    alice = await running.tenant()
    link = await running.create(alice, title="x", tags=["a"], max_visits=7, redirect_status=301)
    masked = await running.update(alice, pb.Link(name=link.name, title="ignored", max_visits=9), "max_visits", "tags")
    assert (masked.title, masked.max_visits, list(masked.tags), masked.redirect_status) == ("x", 9, [], 301)
    unmasked = await running.update(alice, pb.Link(name=link.name, max_visits=0, title=""))
    assert (unmasked.max_visits, unmasked.title, unmasked.redirect_status) == (0, "", 301)
    again = await running.update(alice, unmasked)
    assert again == unmasked
    whole = await running.update(alice, pb.Link(name=link.name, destination=DESTINATION), "*")
    assert (whole.redirect_status, whole.code) == (302, link.code)
    for body, path in (
        (pb.Link(name=link.name, code="other"), ""),
        (pb.Link(name=link.name), "code"),
        (pb.Link(name=link.name), "nonsense"),
    ):
        with pytest.raises(errors.Invalid):
            await running.update(alice, body, *filter(None, [path]))


async def test_lists_come_in_pages_newest_first_and_their_tokens_fit_no_other_list(running: Running) -> None:
    alice = await running.tenant()
    links = [pb.Link(destination=DESTINATION) for _ in range(5)]
    made = await rpc.call(running.stub.BatchCreateLinks, pb.BatchCreateLinksRequest(links=links), alice)
    gone = made.links[2]
    await rpc.call(running.stub.DeleteLink, pb.DeleteLinkRequest(name=gone.name), alice)
    seen, token = [], ""
    while True:
        page = await rpc.call(running.stub.ListLinks, pb.ListLinksRequest(page_size=3, page_token=token), alice)
        seen += [link.name for link in page.links]
        token = page.next_page_token
        if not token:
            break
        other = await running.tenant()
        with pytest.raises(errors.Invalid):
            await rpc.call(running.stub.ListLinks, pb.ListLinksRequest(page_token=token), other)
    numbers = [int(name.partition("/")[2]) for name in seen]
    assert sorted(numbers, reverse=True) == numbers
    assert set(seen) == {link.name for link in made.links} - {gone.name}
    assert pagination.PAGE_SIZE_MAX == 1_000


@pytest.mark.promise("LINKS-10")
async def test_a_foreign_link_is_an_unknown_one_down_to_the_last_byte(running: Running) -> None:
    """Also names that are none, and each method that takes a name."""
    alice, bob = await running.tenant(), await running.tenant()
    foreign = await running.create(bob)
    unknown = f"links/{ids.Ids(SystemClock()).next()}"
    answers = set()
    for name in (
        foreign.name,
        unknown,
        "links/abc",
        "links/-1",
        "links/99999999999999999999",
        "links/",
        "",
        "domains/1",
        "links/1/2",
    ):
        for method, request in (
            (running.stub.GetLink, pb.GetLinkRequest(name=name)),
            (running.stub.DeleteLink, pb.DeleteLinkRequest(name=name)),
            (running.stub.UpdateLink, pb.UpdateLinkRequest(link=pb.Link(name=name, title="mine now"))),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await cast(Any, method)(request, metadata=rpc.outgoing(alice))
            answers.add((refused.value.code(), refused.value.details(), str(refused.value.trailing_metadata())))
    assert len(answers) == 1
    with pytest.raises(errors.NotFound):
        await rpc.call(running.stub.LookupLink, pb.LookupLinkRequest(code=foreign.code, domain=foreign.domain), alice)
    assert (await rpc.call(running.stub.GetLink, pb.GetLinkRequest(name=foreign.name), bob)).title == ""


async def test_an_ended_link_answers_gone_and_an_unknown_one_not_found(running: Running) -> None:
    alice = await running.tenant()
    link = await running.create(alice, disabled=True)
    with pytest.raises(errors.Gone):
        await rpc.call(running.stub.ResolveLink, pb.ResolveLinkRequest(code=link.code, domain=link.domain), Context())
    with pytest.raises(errors.NotFound) as refused:
        await rpc.call(running.stub.ResolveLink, pb.ResolveLinkRequest(code="unknown", domain=link.domain), Context())
    assert not isinstance(refused.value, errors.Gone)


async def test_a_tenant_adds_domains_that_are_nobody_elses(running: Running) -> None:
    alice, bob = await running.tenant(), await running.tenant()
    host = f"go{alice.tenant}.example"

    async def add(caller: Context, name: str) -> pb.Domain:
        return await rpc.call(running.stub.CreateDomain, pb.CreateDomainRequest(domain=pb.Domain(host=name)), caller)

    made = await add(alice, host.upper())
    assert (made.host, made.is_default) == (host, False)
    with pytest.raises(errors.AlreadyExists):
        await add(bob, host)
    with pytest.raises(errors.Unprocessable):
        await add(bob, "mine.short.test")
    link = await running.create(alice, domain=host, code="summer")
    assert link.short_url == f"http://{host}:8080/summer"
    with pytest.raises(errors.Unprocessable):
        await running.create(bob, domain=host)
    found = await rpc.call(running.stub.ResolveLink, pb.ResolveLinkRequest(code="summer", domain=host), Context())
    assert found.location == DESTINATION


@pytest.mark.promise("LINKS-5")
async def test_click_totals_come_from_analytics_and_never_fall(running: Running) -> None:
    """Redelivered, out of order, of foreign links, of other kinds, of items that are no ids: only the highest of the own link counts."""
    alice, bob = await running.tenant(), await running.tenant()
    link = await running.create(alice)
    item = int(link.name.partition("/")[2])

    async def tell(tenant: Context, item_: int, events: int, nonbots: int, kind: str = "click") -> None:
        message = analytics_events_pb2.ItemTotal(
            tenant_id=tenant.tenant, kind=kind, item=item_, events=events, nonbots=nonbots
        )
        await running.tell("analytics.totals.v1", f"{alice.tenant}", message, tenant.tenant)

    async def counted() -> tuple[int, int]:
        shown = await rpc.call(running.stub.GetLink, pb.GetLinkRequest(name=link.name), alice)
        return shown.click_count, shown.bot_count

    await tell(alice, item, 10, 7)
    await tell(alice, item, 10, 7)
    await tell(alice, item, 4, 2)
    await tell(bob, item, 99, 99)
    await tell(alice, item, 99, 99, kind="view")
    await tell(alice, item | 1 << 63, 99, 99)
    await tell(alice, item + 1, 99, 99)
    last = await running.create(alice)
    await tell(alice, int(last.name.partition("/")[2]), 1, 1)

    async def last_counted() -> bool:
        shown = await rpc.call(running.stub.GetLink, pb.GetLinkRequest(name=last.name), alice)
        return bool(shown.click_count == 1)

    await until(last_counted)
    assert await counted() == (10, 3)
    async with asyncio.timeout(5):
        await tell(alice, item, 12, 8)
        while await counted() != (12, 4):
            await asyncio.sleep(0.02)


async def test_the_same_request_id_gets_the_same_answer_byte_for_byte(running: Running) -> None:
    alice = await running.tenant()
    request = pb.CreateLinkRequest(link=pb.Link(destination="https://bücher.example/ß", tags=["a"]), request_id="r1")
    first = await rpc.call(running.stub.CreateLink, request, alice)
    assert (await rpc.call(running.stub.CreateLink, request, alice)).SerializeToString(
        deterministic=True
    ) == first.SerializeToString(deterministic=True)
    changed = pb.UpdateLinkRequest(link=pb.Link(name=first.name, title="x"), request_id="r2")
    second = await rpc.call(running.stub.UpdateLink, changed, alice)
    assert await rpc.call(running.stub.UpdateLink, changed, alice) == second
    gone = pb.DeleteLinkRequest(name=first.name, request_id="r3")
    for _ in range(2):
        await rpc.call(running.stub.DeleteLink, gone, alice)
    with pytest.raises(errors.NotFound):
        await rpc.call(running.stub.DeleteLink, pb.DeleteLinkRequest(name=first.name), alice)


@pytest.mark.promise("LINKS-9")
async def test_a_change_reaches_whoever_follows_the_events_within_a_second(running: Running) -> None:
    """From the answer of the update to the event in a consumer's hands: what a gateway's near cache waits for."""
    alice = await running.tenant()
    link = await running.create(alice)
    await running.heard(link.name)
    took = []
    for number in range(20):
        await running.update(alice, pb.Link(name=link.name, title=str(number)))
        answered = time.monotonic()
        await running.heard(link.name)
        took.append(time.monotonic() - answered)
    assert max(took) < 1.0, took
