"""Creating links, by batches and one by one, against plain inserts of the same rows.

A process of links runs as in production: relay, consumers and caches take their share while the calls come in over gRPC. Every link is in
PostgreSQL, durable, with its event in the outbox, when its call is answered; the clock stops when the last event has reached Kafka. The
reference writes the same rows into the same server, without indexes, events, codes or calls.
"""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaProducer

from benchmarks.engines import started
from benchmarks.result import Result
from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.api.links.v1 import links_pb2_grpc
from groundswell.api.tenancy.v1 import tenancy_events_pb2, tenancy_pb2
from groundswell.engines import ports, topics
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.engines.valkey import Valkey
from groundswell.kernel import bus, errors, rpc
from groundswell.kernel.bus.events import headers_of, wire_headers
from groundswell.kernel.context import Context
from groundswell.kernel.postgres.migrations import dsn_of
from groundswell.kernel.rpc.client import Signer

PER_SECOND_MIN = 1_157
"""100 million a day."""
BATCH_LINKS = 500
BATCH_CALLERS = 4
SINGLE_CALLERS = 32
SECONDS = 8.0
CALLER = Context(2, "apiKeys/2", frozenset({"*"}))
TOPICS = Path(__file__).parents[1] / "protos" / "topics"


async def run() -> Result:
    """Links created a second by batches; `details` holds those by single calls."""
    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        async with _platform(Path(folder)) as (stub, postgres_dsn):
            reference = await _plain_inserts(postgres_dsn)
            by_batch = await _rate(postgres_dsn, BATCH_CALLERS, lambda: _create_batch(stub))
            by_call = await _rate(postgres_dsn, SINGLE_CALLERS, lambda: _create_one(stub))
    return Result(
        name="creation",
        value=by_batch,
        unit="links/s",
        reference="plain multi-row inserts of the same rows",
        reference_value=reference,
        bound=PER_SECOND_MIN,
        bound_on_value=True,
        details={
            "by_single_calls_per_s": round(by_call),
            "batch_links": BATCH_LINKS,
            "batch_callers": BATCH_CALLERS,
            "single_callers": SINGLE_CALLERS,
            "seconds": SECONDS,
        },
    )


async def _rate(postgres_dsn: str, callers: int, create: Callable[[], Awaitable[int]]) -> float:
    """Links a second, whose events have left too, that `callers` create by calling again as soon as they are answered."""
    started, until, made = time.monotonic(), time.monotonic() + SECONDS, 0

    async def call() -> None:
        nonlocal made
        while time.monotonic() < until:
            created = await create()
            made += created

    await asyncio.gather(*(call() for _ in range(callers)))
    await _drained(postgres_dsn)
    rate = made / (time.monotonic() - started)
    assert await _links(postgres_dsn) >= made, "answered links are not in the table"
    return rate


async def _create_batch(stub: links_pb2_grpc.LinkServiceStub) -> int:
    links = [
        pb.Link(destination=f"https://example.com/articles/{secrets.token_hex(8)}?from=share")
        for _ in range(BATCH_LINKS)
    ]
    answer = await rpc.call(stub.BatchCreateLinks, pb.BatchCreateLinksRequest(links=links), CALLER, timeout_s=30)
    return len(answer.links)


async def _create_one(stub: links_pb2_grpc.LinkServiceStub) -> int:
    link = pb.Link(destination=f"https://example.com/articles/{secrets.token_hex(8)}?from=share")
    await rpc.call(stub.CreateLink, pb.CreateLinkRequest(link=link), CALLER, timeout_s=30)
    return 1


async def _plain_inserts(postgres_dsn: str) -> float:
    connection = await asyncpg.connect(dsn_of(postgres_dsn, "postgres"))
    try:
        await connection.execute(
            "CREATE TABLE plain_links (id bigint PRIMARY KEY, code text, destination text, owner text)"
        )
        started, made = time.monotonic(), 0
        while time.monotonic() < started + SECONDS / 4:
            ids = list(range(made, made + BATCH_LINKS))
            urls = [f"https://example.com/articles/{secrets.token_hex(8)}?from=share" for _ in ids]
            await connection.execute(
                "INSERT INTO plain_links SELECT id, id::text, url, 'apiKeys/2' FROM unnest($1::bigint[], $2::text[]) AS t(id, url)",
                ids,
                urls,
            )
            made += BATCH_LINKS
        return made / (time.monotonic() - started)
    finally:
        await connection.close()


async def _links(postgres_dsn: str) -> int:
    connection = await asyncpg.connect(dsn_of(postgres_dsn, "gs_links"))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM links"))
    finally:
        await connection.close()


async def _drained(postgres_dsn: str) -> None:
    """Waits until every event has left the outbox."""
    connection = await asyncpg.connect(dsn_of(postgres_dsn, "gs_links"))
    try:
        while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


@asynccontextmanager
async def _platform(folder: Path) -> AsyncIterator[tuple[links_pb2_grpc.LinkServiceStub, str]]:
    """The engines and one process of links, with a tenant that it has heard of."""
    async with AsyncExitStack() as stack:
        kafka, postgres, valkey = (
            Kafka(Folders.under(folder, "kafka"), *ports.draw(2)),
            Postgres(Folders.under(folder, "postgres"), *ports.draw(1)),
            Valkey(Folders.under(folder, "valkey"), *ports.draw(2)),
        )
        for engine in (kafka, postgres, valkey):
            await stack.enter_async_context(started(engine))
        await topics.create(kafka.address, TOPICS)
        address = f"127.0.0.1:{ports.draw(1)[0]}"
        Signer.key = bytes.fromhex("6b" * 32)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            "POSTGRES_DSN": postgres.address,
            "REDIS_URL": valkey.address,
            "GROUNDSWELL_PROCESS": "links",
            "GROUNDSWELL_DATA": str(folder / "data"),
            "GROUNDSWELL_RPC_ADDRESS": address,
            "GROUNDSWELL_ENDPOINTS": f"links={address},identity=127.0.0.1:1",
            "GROUNDSWELL_INTERNAL_KEY": Signer.key.hex(),
        }
        command = [sys.executable, "-m", "groundswell", "run", "links"]
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        channel = rpc.channel(address)
        stack.push_async_callback(channel.close)
        stub = links_pb2_grpc.LinkServiceStub(channel)
        await _tell_of_tenant(kafka.address)
        await _until_ready(stub)
        yield stub, postgres.address


async def _tell_of_tenant(bootstrap: str) -> None:
    tenant = tenancy_pb2.Tenant(name=f"tenants/{CALLER.tenant}", slug="demo", revision=1)
    event = bus.Outgoing("tenancy.events.v1", str(CALLER.tenant), tenancy_events_pb2.TenantCreated(tenant=tenant))
    headers = wire_headers(headers_of(event, 1, CALLER.tenant))
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(
            event.topic, event.message.SerializeToString(), key=event.key.encode(), headers=headers
        )


async def _until_ready(stub: links_pb2_grpc.LinkServiceStub) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await _create_one(stub)
                return
            except errors.Unavailable:
                await asyncio.sleep(0.1)
