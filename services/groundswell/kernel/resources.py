"""What a process has, opened when first asked for and shared by its modules."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc

import groundswell
from groundswell.api.identity.v1 import identity_events_pb2, identity_pb2, identity_pb2_grpc
from groundswell.kernel import access, bus, clock, context, errors, ids, postgres, redis, rpc, settings, tenants
from groundswell.kernel.bus.frames import FrameProducer, FrameSettings, send_left
from groundswell.kernel.bus.frames import opened as frames_opened
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.rpc.client import Signer

S = TypeVar("S")

log = logging.getLogger(__name__)

JOURNAL = "journal"
"""Name of the folder with a process's journal, in its `data`."""
REVOCATIONS = "identity.revocations.v1"
RETRY_S = 0.5
SETTLED_POLL_S = 0.02
REVOCATIONS_LAG_S_MAX = 0.9
"""Beyond this lag of the revocations no check of a key is remembered. A revoked key is refused within a second, of which its event may
need a tenth to be in the log."""


@settings.section("GROUNDSWELL")
class ProcessSettings:
    """What the supervisor (or the chart) tells every process."""

    process: str = ""
    """Name of the process, in logs and metrics."""
    instance: str = ""
    """Name of this one among equal processes, the same again after a restart, so that it gets its partitions back at once; empty: the
    name of the process, of which there is then one."""
    data: str = ".groundswell/data"
    """Folder of this process alone: journals live here and survive it."""
    left: tuple[str, ...] = ()
    """Names of folders beside `data` that processes of another placement left: what their journals hold is sent by this process."""
    endpoints: str = ""
    """Where each module listens: `links=127.0.0.1:4001,writer=…`. Several addresses, separated by spaces, are those of processes that do
    the same; calls are shared out among those that listen."""
    rpc_address: str = "127.0.0.1:0"
    """`host:port` of this process's gRPC server."""
    connection_s_max: float = 0.0
    """After so long the gRPC server ends a connection, once its calls are answered, so that callers look for new processes behind a
    name; 0 never does."""
    ops_address: str = ""
    """`host:port` of health and metrics; empty serves none."""
    internal_key: str = ""
    """64 hex digits that only processes of the platform know: signs contexts and page tokens. No process starts without them."""
    state_file: str = ""
    """The supervisor's state.json; empty on a cluster."""


@settings.section("")
class EngineSettings:
    """Addresses of the engines."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers, `host:port` separated by commas."""
    redis_url: str = "redis://127.0.0.1:6379"
    """A Valkey or Redis server; with `?cluster=1`, a node of a cluster. Let it evict (`maxmemory-policy allkeys-lru`): all in it can be
    rebuilt, and a full server that does not evict remembers nothing new. Let it forget all at a restart: what it brings back is old."""
    postgres_dsn: str = ""
    """A role that may create databases and roles."""
    postgres_pool_dsn: str = ""
    """A proxy before that server that pools transactions (PgBouncer, `pool_mode = transaction`), which those of the services then go
    through; only host, port and parameters count, roles are the services' own (`groundswell proxy-users`). Empty: none."""
    postgres_replica_dsn: tuple[str, ...] = ()
    """Streaming replicas of that server, from which lists are read."""


class Resources:
    """One process's connections; made by `Resources.open` only.

    No engine has to be there when a process starts: what needs one that is away is `Unavailable`, or waits in the background.
    """

    def __init__(self, environment: Mapping[str, str], stack: AsyncExitStack) -> None:
        self._stack = stack
        self._environment = environment
        self.process = self.settings(ProcessSettings)
        self._engines = self.settings(EngineSettings)
        self.instance = self.process.instance or self.process.process or "alone"
        self.clock: clock.Clock = clock.SystemClock()
        self.ids = ids.Ids(self.clock)
        self.data = Path(self.process.data)
        self.internal_key = internal_key(self.process.internal_key)
        self.kafka = self._engines.kafka_bootstrap_servers
        self.tenants = tenants.Directory()
        self._endpoints = dict(part.split("=", 1) for part in self.process.endpoints.split(",") if part)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._databases: dict[str, postgres.Database] = {}
        self._lock = asyncio.Lock()
        self._producer: Producer | None = None
        self._redis: redis.Redis | None = None
        self._frames: FrameProducer | None = None
        self._verifier: access.Verifier | None = None
        self._feeds: dict[str, bus.Feed] = {}
        self._waiting: set[str] = set()
        self.running: dict[asyncio.Future[None], str] = {}
        """What goes on in the background; the process dies with any of it that raises."""

    @classmethod
    @asynccontextmanager
    async def open(cls, environment: Mapping[str, str]) -> AsyncIterator["Resources"]:
        """The resources of this process; all that was opened is closed when the block ends. Raises `SettingError`."""
        async with AsyncExitStack() as stack:
            resources = cls(environment, stack)
            Signer.key = resources.internal_key
            yield resources

    def settings(self, cls: type[S]) -> S:
        """The section `cls`, from this process's environment."""
        return settings.load(cls, self._environment)

    async def reads(self, service: str) -> postgres.Reads:
        """Where lists of `service` are read."""
        replicas = self._engines.postgres_replica_dsn
        for each in replicas:
            settings.check_postgres("POSTGRES_REPLICA_DSN", each)
        reading = postgres.reading(await self.postgres(service), replicas, self.ids)
        return await self._stack.enter_async_context(reading)

    async def postgres(self, service: str) -> postgres.Database:
        """The migrated database of `service`; while the server is away one that is `Unavailable` and migrated upon its return.

        Raises `SettingError` where an address is none.
        """
        async with self._lock:
            if service not in self._databases:
                dsn, proxy = self._engines.postgres_dsn, self._engines.postgres_pool_dsn
                settings.check_postgres("POSTGRES_DSN", dsn)
                settings.check_postgres("POSTGRES_POOL_DSN", proxy or dsn)
                own = partial(postgres.app_dsn, service=service, internal_key=self.internal_key)
                opened = postgres.opened(own(dsn), self.ids, proxy_dsn=proxy and own(proxy), prepared=False)
                migrate = partial(self.migrate, service)
                database = self._databases[service] = await self._stack.enter_async_context(opened)
                if not await database.prepare(migrate):
                    self._run(f"postgres.{service}", partial(_prepared, database, migrate))
            return self._databases[service]

    async def migrate(self, service: str) -> None:
        """Brings the database of `service` to this version; raises `MigrationFailed`, and `postgres.GONE` while the server is away."""
        folder = Path(groundswell.__path__[0]) / service / "migrations"
        await postgres.migrate(self._engines.postgres_dsn, service, folder, self.internal_key)

    async def eventually(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does `work` now or, while it fails with what may pass, as soon as it does not; the process is not ready before."""
        if not await _done(name, work):
            self._waiting.add(name)
            self._run(name, partial(self._done_later, name, work))

    async def redis(self) -> redis.Redis:
        """The process's client of Valkey."""
        async with self._lock:
            if self._redis is None:
                self._redis = await self._stack.enter_async_context(redis.opened(self._engines.redis_url))
            return self._redis

    def producer(self) -> Producer:
        """The process's producer of events."""
        if self._producer is None:
            self._producer = Producer.of_events(self.kafka)
            self._stack.push_async_callback(self._producer.close)
        return self._producer

    async def frames(self) -> FrameProducer:
        """The process's producer of telemetry, with its journal under `data`; what others `left` is sent beside it."""
        async with self._lock:
            if self._frames is None:
                config = self.settings(FrameSettings)
                self._frames = await self._stack.enter_async_context(
                    frames_opened(self.kafka, self.data / JOURNAL, config)
                )
                self._run("frames", self._frames.watch)
                if self.process.left:
                    left = [self.data.parent / name / JOURNAL for name in self.process.left]
                    self._run("frames.left", partial(send_left, self.kafka, left, config))
            return self._frames

    def channel(self, module: str) -> grpc.aio.Channel:
        """A channel to the process that runs `module`; raises `KeyError` when no endpoint is configured for it."""
        target = self._endpoints[module]
        if target not in self._channels:
            self._channels[target] = rpc.channel(target)
            self._stack.push_async_callback(self._channels[target].close)
        return self._channels[target]

    def verifier(self) -> access.Verifier:
        """The process's check of credentials, with identity."""
        if self._verifier is None:
            self._verifier = access.Verifier(self.checker(), self._hears_revocations)
        return self._verifier

    def checker(self) -> Callable[[str], Awaitable[access.Credential]]:
        """What asks identity for a credential that the verifier does not remember."""
        stub = identity_pb2_grpc.ApiKeyServiceStub(self.channel("identity"))

        async def check(secret: str) -> access.Credential:
            request = identity_pb2.VerifyApiKeyRequest(secret=secret)
            answer = await rpc.call(
                stub.VerifyApiKey, request, context.service("kernel"), timeout_s=2.0, idempotent=True
            )
            holder = context.Context(answer.tenant_id, f"apiKeys/{answer.key_id}", frozenset(answer.scopes))
            expires = answer.expire_time.ToMilliseconds() / 1000 if answer.HasField("expire_time") else None
            return access.Credential(answer.key_id, holder, expires)

        return check

    def tenant_gate(self) -> Callable[[context.Context], None]:
        """What refuses callers of suspended tenants, and all callers until it is known who is suspended.

        Starts the feeds that every process follows.
        """
        if not self._feeds:
            bound = bus.Bound(REVOCATIONS_LAG_S_MAX, self._forget_checks)
            self._feeds = {
                "tenants": bus.follow(self.kafka, [tenants.TOPIC], self.tenants.hear, from_start=True),
                # From the end: what was revoked before is in identity's database, and no check from before the feed was there is kept.
                "revocations": bus.follow(
                    self.kafka, [REVOCATIONS], self._hear_revocation, from_start=False, bound=bound
                ),
            }
            for name, feed in self._feeds.items():
                self._run(f"feeds.{name}", feed.run)
        return self._refuse

    async def suspensions_read(self) -> None:
        """Waits until it is known who is suspended, or that the log is away. After `tenant_gate`; callers of a public method have no
        credential that could be refused, so none is served before."""
        while not self._feeds["tenants"].settled():
            await asyncio.sleep(SETTLED_POLL_S)

    def ready(self) -> dict[str, Callable[[], bool]]:
        """The readiness of what all processes share: nothing waits, and every feed was read to its end once or the broker is away."""
        feeds = {f"feeds.{name}": feed.settled for name, feed in self._feeds.items()}
        return feeds | {name: partial(self._is_done, name) for name in self._waiting}

    def _is_done(self, name: str) -> bool:
        return name not in self._waiting

    async def _done_later(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(RETRY_S)
        while not await _done(name, work):
            await asyncio.sleep(RETRY_S)
        self._waiting.remove(name)
        await asyncio.Event().wait()

    def _refuse(self, caller: context.Context) -> None:
        if not self._feeds["tenants"].caught_up.is_set():
            raise tenants.DirectoryUnread
        self.tenants.refuse_suspended(caller)

    def _hears_revocations(self) -> bool:
        """Whether all that was revoked but lately has reached this process; not so before it follows the revocations."""
        feed = self._feeds.get("revocations")
        return feed is not None and feed.lag_s() <= REVOCATIONS_LAG_S_MAX

    def _forget_checks(self) -> None:
        if self._verifier is not None:
            self._verifier.forget()

    def _hear_revocation(self, event: bus.Incoming) -> None:
        # A process that has checked nothing yet remembers nothing, and identity knows better than old news.
        if self._verifier is not None:
            self._verifier.revoke(event.parse(identity_events_pb2.AccessRevoked).key_id)

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Begins something that goes on until the process ends."""
        task = asyncio.ensure_future(_awaited(work))
        self.running[task] = name
        self._stack.push_async_callback(_ended, task)


def internal_key(digits: str) -> bytes:
    """The internal key; raises `SettingError` for a weaker one: that, least of all an empty one, would let anybody sign for any tenant."""
    if not re.fullmatch("[0-9a-fA-F]{64}", digits):
        raise settings.SettingError(
            "GROUNDSWELL_INTERNAL_KEY must be 64 hex digits: `openssl rand -hex 32` makes some."
        )
    return bytes.fromhex(digits)


async def _prepared(database: postgres.Database, migrate: Callable[[], Awaitable[object]]) -> None:
    """Migrates as soon as the server is there, then rests."""
    while not await database.prepare(migrate):
        await asyncio.sleep(RETRY_S)
    await asyncio.Event().wait()


async def _done(name: str, work: Callable[[], Awaitable[None]]) -> bool:
    """Does `work`; whether it was done, False where it failed with what may pass."""
    try:
        await work()
    except errors.Error as error:
        if not error.retryable:
            raise
        log.warning("%s waits: %s", name, error)
        return False
    return True


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
