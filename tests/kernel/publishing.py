"""Events of a test: a message to publish, its way out through an outbox, and what the log has of it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.api.tenancy.v1 import tenancy_pb2 as pb
from groundswell.kernel import bus, postgres
from groundswell.kernel.context import Context

ALICE = Context(tenant=7)


def event(topic: str, key: str, revision: int = 1, *, urgent: bool = False) -> bus.Outgoing:
    message = events_pb.TenantCreated(tenant=pb.Tenant(name=f"tenants/{key}", revision=revision))
    return bus.Outgoing(topic, key, message, urgent=urgent)


async def publish(database: postgres.Database, *events: bus.Outgoing) -> None:
    async with database.tenant_tx(ALICE) as tx:
        await tx.publish(*events)


@asynccontextmanager
async def running(*tasks: Awaitable[None]):  # type: ignore[no-untyped-def]  # a test's own scaffold
    """Runs tasks while the block runs; one that dies fails the test."""
    started = [asyncio.ensure_future(task) for task in tasks]
    try:
        yield
        for task in started:
            if task.done():
                task.result()
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def read(kafka_address: str, topic: str, count: int) -> list:  # type: ignore[type-arg]  # records of the driver
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_address, auto_offset_reset="earliest", group_id=f"r-{secrets.token_hex(4)}"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()
