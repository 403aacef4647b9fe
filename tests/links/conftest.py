"""Links as its module wires it, on real engines, as often as a test wants processes; every test works in tenants of its own."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import groundswell.links
from groundswell.engines import ports, running
from groundswell.engines.children import Child
from groundswell.engines.engine import Engine, Folders
from groundswell.engines.postgres import Postgres
from groundswell.engines.valkey import Valkey
from groundswell.kernel import bus, clock, ids, postgres, redis
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.links.events import LinkEvents
from groundswell.links.model.addresses import Addresses
from groundswell.links.model.links import Draft, Link, Options
from groundswell.links.service.bulkhead import Bulkhead
from groundswell.links.service.codes import Codes
from groundswell.links.service.corrections import Corrections
from groundswell.links.service.creation import Creation
from groundswell.links.service.denials import Denials
from groundswell.links.service.domains import Domains
from groundswell.links.service.links import Links
from groundswell.links.service.redirects import Redirects
from groundswell.links.service.visits import Visits
from groundswell.links.store.targets import TargetCache

KEY = b"k" * 32
MIGRATIONS = Path(groundswell.links.__path__[0]) / "migrations"
ADDRESSES = Addresses("short.test", "demo", ("home.test",), "http", 8080)
NO_REQUEST = RequestKey()


class MovableClock:
    """The machine's clocks, put forward by as much as a test says."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return clock.SystemClock().now_ms() + self.ahead_ms

    def monotonic_s(self) -> float:
        return clock.SystemClock().monotonic_s() + self.ahead_ms / 1_000

    def lasting_s(self) -> float:
        return clock.SystemClock().lasting_s() + self.ahead_ms / 1_000


@dataclass(frozen=True)
class Process:
    """All use cases of links with connections of their own, as one process has them."""

    database: postgres.Database
    redis: redis.Redis
    cache: TargetCache
    domains: Domains
    denials: Denials
    codes: Codes
    creation: Creation
    links: Links
    redirects: Redirects
    corrections: Corrections
    published: list[bus.Outgoing]
    """Events that left without the outbox."""
    suspended: set[int]
    clock: MovableClock

    async def create(self, context: Context, destination: str = "https://example.com/", **chosen: object) -> Link:
        """A link with these options; `code`, `domain` and `code_length` are the draft's."""
        of_draft = {name: chosen.pop(name) for name in ("code", "domain", "code_length") if name in chosen}
        options = Options(destination=destination, **chosen)  # type: ignore[arg-type]  # each test names them rightly
        return await self.creation.create(context, Draft(options=options, **of_draft), NO_REQUEST)  # type: ignore[arg-type]

    async def change(self, context: Context, link: Link, **chosen: object) -> Link:
        """The link with these options changed."""
        options = Options(**({"destination": link.options.destination} | chosen))  # type: ignore[arg-type]  # as above
        return await self.links.update(context, link.id, Draft(options=options), list(chosen), NO_REQUEST)


Start = Callable[[], AbstractAsyncContextManager[Process]]


@asynccontextmanager
async def started(
    dsn: str, redis_url: str, slugs: dict[int, str], *, cache_answer_s_max: float = 1.0
) -> AsyncIterator[Process]:
    """A process on these engines that knows these tenants; it is patient with Valkey, lest a busy machine look like an outage."""
    time = MovableClock()
    numbers = ids.Ids(time)
    async with (
        postgres.opened(dsn, numbers) as database,
        redis.opened(redis_url, answer_s_max=cache_answer_s_max) as valkey,
    ):
        cache, bulkhead, announce = TargetCache(valkey, time), Bulkhead(), LinkEvents(ADDRESSES)
        published: list[bus.Outgoing] = []

        async def publish(events: Sequence[bus.Outgoing]) -> None:
            published.extend(events)

        corrections = Corrections(cache, publish)

        async def slug_of(tenant: int) -> str | None:
            return slugs.get(tenant)

        domains = Domains(database, bulkhead, cache, ADDRESSES, slug_of, numbers, time)
        codes, suspended = Codes(database, KEY), set[int]()
        reads = postgres.Reads(database)
        yield Process(
            database,
            valkey,
            cache,
            domains,
            Denials(database, reads, domains, numbers, time),
            codes,
            Creation(database, domains, codes, corrections, announce, numbers, time),
            Links(database, reads, domains, corrections, announce, time),
            Redirects(database, bulkhead, cache, domains, Visits(database, bulkhead), suspended, time),
            corrections,
            published,
            suspended,
            time,
        )


@pytest.fixture(scope="session")
def links_dsn(postgres_dsn: str) -> str:
    """A migrated database of links, shared by the session."""
    return asyncio.run(postgres.migrate(postgres_dsn, f"links{secrets.token_hex(4)}", MIGRATIONS, KEY))


@pytest.fixture(scope="session")
def slugs() -> dict[int, str]:
    """What every process of the session knows of tenants."""
    return {}


def new_tenant(slugs: dict[int, str], actor: str = "apiKeys/1") -> Context:
    """Somebody in a tenant that nobody used before."""
    tenant = secrets.randbits(40)
    slugs[tenant] = f"t{secrets.token_hex(5)}"
    return Context(tenant, actor, frozenset({"*"}))


@pytest.fixture
def alice(slugs: dict[int, str]) -> Context:
    return new_tenant(slugs)


@pytest.fixture
def bob(slugs: dict[int, str]) -> Context:
    """In another tenant than Alice."""
    return new_tenant(slugs, "apiKeys/2")


@pytest.fixture
def start(links_dsn: str, redis_url: str, slugs: dict[int, str]) -> Start:
    return lambda: started(links_dsn, redis_url, slugs)


@pytest.fixture
async def process(start: Start) -> AsyncIterator[Process]:
    async with start() as running:
        yield running


@pytest.fixture
async def other(start: Start) -> AsyncIterator[Process]:
    """A second process of links, beside the first."""
    async with start() as running:
        yield running


class Switched:
    """An engine that a test switches off and on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._child: Child | None = None
        engine.prepare(print)

    @property
    def address(self) -> str:
        return self._engine.address

    async def on(self) -> None:
        self._child = await running.start(self._engine)

    async def off(self) -> None:
        if self._child is not None:
            await self._child.stop()
            self._child = None

    def signal(self, number: signal.Signals) -> None:
        """Signals all of its processes: PostgreSQL has one for each connection."""
        assert self._child is not None
        for each in (main := psutil.Process(self._child.pid), *main.children(recursive=True)):
            each.send_signal(number)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Switched]:
    switched = Switched(Valkey(Folders.under(tmp_path, "valkey"), *ports.draw(2)))
    await switched.on()
    yield switched
    await switched.off()


@pytest.fixture
async def database(engines_home: Path) -> AsyncIterator[Switched]:
    switched = Switched(Postgres(Folders.under(engines_home, "postgres-switched"), *ports.draw(1)))
    await switched.on()
    yield switched
    await switched.off()
