"""What a process has while the broker is away: it starts, is ready, refuses what it can not judge, and loses nothing."""

import asyncio
import gc
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from groundswell.api.identity.v1 import identity_events_pb2, identity_pb2, identity_pb2_grpc
from groundswell.api.tenancy.v1 import tenancy_events_pb2, tenancy_pb2
from groundswell.engines import ports, running, topics
from groundswell.engines.children import Child
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka
from groundswell.kernel import access, bus, errors, modules, resources, rpc, settings, tenants
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.publisher import publish
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources
from tests.broker import Broker

TOPICS = Path(__file__).parents[2] / "protos" / "topics"
INTERNAL_KEY = b"k" * 32
SECRET, OTHER = "gsk_5_good", "gsk_6_good"


def environment(kafka: str, folder: Path, identity: str = "127.0.0.1:1") -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "GROUNDSWELL_DATA": str(folder),
        "GROUNDSWELL_INTERNAL_KEY": INTERNAL_KEY.hex(),
        "GROUNDSWELL_ENDPOINTS": f"identity={identity}",
    }


class Identity(identity_pb2_grpc.ApiKeyServiceServicer):
    """Knows every key, one of them until it is revoked, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked, self.revoked = 0, False

    async def VerifyApiKey(
        self, request: identity_pb2.VerifyApiKeyRequest, call: rpc.Call
    ) -> identity_pb2.VerifyApiKeyResponse:
        self.asked += 1
        if self.revoked and request.secret == SECRET:
            raise access.InvalidCredential
        return identity_pb2.VerifyApiKeyResponse(key_id=int(request.secret.split("_")[1]), tenant_id=7, scopes=["*"])

    async def CreateApiKey(self, request: object, call: rpc.Call) -> object: ...
    async def ListApiKeys(self, request: object, call: rpc.Call) -> object: ...
    async def DeleteApiKey(self, request: object, call: rpc.Call) -> object: ...
    async def ListApiKeyActs(self, request: object, call: rpc.Call) -> object: ...


async def check(secret: str) -> access.Credential:
    raise access.InvalidCredential


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.promise("GATEWAY-10")
@pytest.mark.parametrize("key", ["", "6b", "6b" * 31, "6b" * 33, "6b " * 32, "xy" * 32, "6b" * 31 + "６b"])
async def test_no_process_starts_without_a_whole_internal_key_nor_does_its_refusal_tell_the_key(
    tmp_path: Path, key: str
) -> None:
    """Goal: a key that is missing or cut off stops the platform; an empty one would let anybody sign for any tenant."""
    with pytest.raises(settings.SettingError, match="GROUNDSWELL_INTERNAL_KEY must be 64 hex digits") as refused:
        async with Resources.open(environment("127.0.0.1:1", tmp_path) | {"GROUNDSWELL_INTERNAL_KEY": key}):
            pass
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("variable", ["POSTGRES_DSN", "POSTGRES_POOL_DSN", "POSTGRES_REPLICA_DSN"])
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:5432",
        "http://a:secret@db/x",
        "postgresql://a:secret@db:port/x",
        "a:secret@db",
        "postgresql://a:[secret@db/x",
        "postgresql://a:secret\u2100@db/x",
    ],
)
async def test_an_address_that_is_none_stops_the_process_instead_of_being_waited_for(
    tmp_path: Path, variable: str, address: str
) -> None:
    """Its refusal names the variable and does not tell the password."""
    given = {"POSTGRES_DSN": "postgresql://a@127.0.0.1:1/x", variable: address}
    with pytest.raises(settings.SettingError, match=f"{variable} must be postgresql://") as refused:
        async with Resources.open(environment("127.0.0.1:1", tmp_path) | given) as resources:
            await resources.reads("links")
    assert "secret" not in "".join(traceback.format_exception(refused.value, limit=0))


@pytest.mark.promise("LINKS-4", "TENANCY-7")
async def test_a_process_that_starts_while_the_broker_is_away_is_ready_and_refuses_whom_it_can_not_judge(
    tmp_path: Path,
) -> None:
    """Goal: nothing waits for the broker, and nobody who may be suspended is let through meanwhile."""
    async with Resources.open(environment(f"127.0.0.1:{ports.draw(1)[0]}", tmp_path)) as resources:
        resources.producer()
        refuse = resources.tenant_gate()
        checks = resources.ready()
        assert not all(check() for check in checks.values()), "an answer may still come"
        await until(lambda: all(check() for check in checks.values()))
        with pytest.raises(tenants.DirectoryUnread) as refused:
            refuse(Context(tenant=7))
        assert refused.value.retry_after_s
        assert not any(task.done() for task in resources.running)


@pytest.mark.promise("TENANCY-7")
async def test_a_process_answers_nobody_before_it_knows_who_is_suspended_or_that_it_can_not_know(
    tmp_path: Path,
) -> None:
    """A visitor of a public method has no credential that could be refused: nothing else would keep a suspended tenant's links away."""
    told: list[bool] = []

    class Looking(Identity):
        async def VerifyApiKey(
            self, request: identity_pb2.VerifyApiKeyRequest, call: rpc.Call
        ) -> identity_pb2.VerifyApiKeyResponse:
            told.append(serving.ready()["feeds.tenants"]())
            return await super().VerifyApiKey(request, call)

    @asynccontextmanager
    async def identity(_: Resources) -> AsyncIterator[modules.Module]:
        yield modules.Module("identity", servicers=[Looking()])

    async def ask(caller: Resources) -> None:
        while not told:
            with suppress(errors.Unavailable):
                await caller.verifier().verify(SECRET)

    kafka, here = (f"127.0.0.1:{port}" for port in ports.draw(2))
    settings_ = environment(kafka, tmp_path, here)
    async with (
        Resources.open(settings_ | {"GROUNDSWELL_RPC_ADDRESS": here}) as serving,
        Resources.open(settings_) as caller,
    ):
        asking = asyncio.create_task(ask(caller))
        try:
            async with modules.started({"identity": identity}, serving, serving.process):
                await asyncio.wait_for(asking, 20)
        finally:
            asking.cancel()
            gc.unfreeze()
    assert told[0]


@pytest.mark.promise("TENANCY-7")
async def test_a_suspended_tenant_is_refused_and_the_others_pass_once_the_directory_is_read(
    kafka_address: str, tmp_path: Path
) -> None:
    await topics.create(kafka_address, TOPICS)
    tenant = secrets.randbits(40)
    message = tenancy_pb2.Tenant(
        name=f"tenants/{tenant}", slug=f"t{tenant}", revision=1, state=tenancy_pb2.Tenant.SUSPENDED
    )
    event = bus.Outgoing(tenants.TOPIC, str(tenant), tenancy_events_pb2.TenantSuspended(tenant=message), tenant)
    async with Resources.open(environment(kafka_address, tmp_path)) as resources:
        await publish(resources.producer(), resources.ids, [event])
        refuse = resources.tenant_gate()
        await until(lambda: all(check() for check in resources.ready().values()))
        refuse(Context(tenant=tenant + 1))
        with pytest.raises(tenants.TenantSuspended):
            refuse(Context(tenant=tenant))


@pytest.mark.promise("IDENTITY-5")
async def test_a_key_that_is_revoked_while_the_broker_is_away_is_refused_by_who_remembers_it_also_upon_its_return(
    tmp_path: Path,
) -> None:
    """Method: a broker of the test's own is stopped under a process that has heard it, and returns before the news of the key does."""
    broker, identity, address = Kafka(Folders.under(tmp_path, "kafka"), *ports.draw(2)), Identity(), ports.draw(1)[0]
    await asyncio.to_thread(broker.prepare, print)
    child = await started(broker)
    try:
        await topics.create(broker.address, TOPICS)
        here = f"127.0.0.1:{address}"
        async with (
            Resources.open(environment(broker.address, tmp_path, here)) as process,
            rpc.serve([identity], here, INTERNAL_KEY, access.Verifier(check)),
        ):
            process.tenant_gate()
            await until(lambda: all(check() for check in process.ready().values()))
            verifier = process.verifier()
            async with asyncio.timeout(30):
                while not await is_remembered(verifier, identity, SECRET):
                    await asyncio.sleep(0.02)
            await child.stop()
            identity.revoked = True
            await refused(verifier, within_s=2 * resources.REVOCATIONS_LAG_S_MAX)
            child = await started(broker)
            async with asyncio.timeout(30):
                while not await is_remembered(verifier, identity, OTHER):
                    with pytest.raises(errors.Unauthenticated):
                        await verifier.verify(SECRET)
                    await asyncio.sleep(0.005)
            with pytest.raises(errors.Unauthenticated):
                await verifier.verify(SECRET)
    finally:
        await child.stop()


class Overtaken(Resources):
    """A process whose first check is older than what happens before it is answered, however long that takes."""

    def __init__(self, environment: Mapping[str, str], stack: AsyncExitStack) -> None:
        super().__init__(environment, stack)
        self.made, self.given, self.revoked = asyncio.Event(), asyncio.Event(), False

    def checker(self) -> Callable[[str], Awaitable[access.Credential]]:
        async def check(secret: str) -> access.Credential:
            if self.revoked:
                raise access.InvalidCredential
            self.made.set()
            await self.given.wait()
            return access.Credential(int(secret.split("_")[1]), Context(tenant=7), None)

        return check


@pytest.mark.promise("IDENTITY-5")
async def test_a_key_that_is_revoked_between_its_check_and_the_beginning_of_the_revocations_is_not_remembered(
    kafka_address: str, tmp_path: Path
) -> None:
    """Nobody hears of such a revocation any more. Method: the answer to the check is held back until the process hears revocations."""
    await topics.create(kafka_address, TOPICS)
    async with Overtaken.open(environment(kafka_address, tmp_path)) as process:
        assert isinstance(process, Overtaken)
        verifier = process.verifier()
        asking = asyncio.create_task(verifier.verify(SECRET))
        await process.made.wait()
        process.revoked = True
        await publish(process.producer(), process.ids, [revocation(SECRET)])
        process.tenant_gate()
        await until(lambda: all(check() for check in process.ready().values()))
        process.given.set()
        assert await asking == Context(tenant=7)
        with pytest.raises(errors.Unauthenticated):
            await verifier.verify(SECRET)


@pytest.mark.promise("IDENTITY-5")
async def test_a_process_that_starts_does_not_read_what_was_revoked_before_and_hears_all_that_is_revoked_from_then_on(
    tmp_path: Path,
) -> None:
    """Goal: a start takes no longer with the years. Method: one hears the revocations of two moments, one only those of the later, on a
    broker where nobody else revokes anything."""
    broker = Broker(tmp_path)
    await broker.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.stop)
        await topics.create(broker.address, TOPICS)

        async def following(name: str) -> Resources:
            process = await stack.enter_async_context(Resources.open(environment(broker.address, tmp_path / name)))
            process.verifier()
            process.tenant_gate()
            await until(lambda: all(check() for check in process.ready().values()))
            return process

        earlier = await following("earlier")
        await publish(earlier.producer(), earlier.ids, [revocation(SECRET)])
        await until(lambda: earlier.verifier().revocations_kept == 1)
        later = await following("later")
        await publish(earlier.producer(), earlier.ids, [revocation(OTHER)])
        await until(lambda: earlier.verifier().revocations_kept == 2)
        await until(lambda: later.verifier().revocations_kept > 0)
        assert later.verifier().revocations_kept == 1


def revocation(secret: str) -> bus.Outgoing:
    key = int(secret.split("_")[1])
    return bus.Outgoing(resources.REVOCATIONS, f"key/{key}", identity_events_pb2.AccessRevoked(key_id=key), 7)


async def started(broker: Kafka) -> Child:
    child = await running.start(broker)
    assert child is not None
    return child


async def is_remembered(verifier: access.Verifier, identity: Identity, secret: str) -> bool:
    """Whether the key passes without being asked for: the process hears of revocations then."""
    asked = identity.asked
    await verifier.verify(secret)
    return identity.asked == asked


async def refused(verifier: access.Verifier, within_s: float) -> None:
    """Waits until the key opens nothing any more."""
    async with asyncio.timeout(within_s):
        with pytest.raises(errors.Unauthenticated):
            await _used(verifier)


async def _used(verifier: access.Verifier) -> None:
    while await verifier.verify(SECRET):
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("failure", [errors.Unavailable, errors.Exhausted, errors.DeadlineExceeded, errors.Conflict])
async def test_what_can_not_be_done_yet_is_done_later_and_the_process_is_ready_only_then(
    tmp_path: Path, failure: type[errors.Error]
) -> None:
    tries, away = 0, True

    async def found() -> None:
        nonlocal tries
        tries += 1
        if away:
            raise failure("Away.")

    async with Resources.open(environment("127.0.0.1:1", tmp_path)) as resources:
        await resources.eventually("found", found)
        ready = resources.ready()["found"]
        await until(lambda: tries > 1)
        assert not ready()
        away = False
        await until(ready)
        assert not any(task.done() for task in resources.running)


async def test_a_producer_that_found_no_broker_connects_when_it_is_there(
    kafka_address: str, tmp_path: Path, topic: str
) -> None:
    """The port answers from a relay that is opened later, as a broker's does that comes back."""
    port = ports.draw(1)[0]
    producer = Producer.of_events(f"127.0.0.1:{port}")
    with pytest.raises(KafkaError):
        await producer.send_and_wait(topic, b"lost")
    host, _, broker_port = kafka_address.rpartition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_broker = await asyncio.open_connection(host, int(broker_port))
        await asyncio.gather(_copy(reader, to_broker[1]), _copy(to_broker[0], writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        await producer.send_and_wait(topic, b"sent")
        await producer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
