"""Reaching the broker, as often as it takes.

Two answers of aiokafka (0.14) are not what they seem. A broker that its controller has fenced, as around a stop or a long sleep, tells of
no broker at all: a client takes that for a cluster without topics and has started, and whatever then looks for a coordinator ends for
good. And a consumer whose start failed half-way can never start. So nobody here has reached a cluster that tells of no broker, and each
try to start has a consumer of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaClient, AIOKafkaConsumer
from aiokafka.errors import KafkaError, NodeNotReadyError

log = logging.getLogger(__name__)

BROKER_RETRY_S = 1.0


def wary(client: AIOKafkaClient) -> AIOKafkaClient:
    """The same client, whose `bootstrap` raises `NodeNotReadyError` where it is told of no broker."""
    bootstrap = client.bootstrap

    async def told_of_brokers() -> None:
        await bootstrap()
        if not client.cluster.brokers():
            await client.close()
            raise NodeNotReadyError("The cluster tells of no broker yet.")

    client.bootstrap = told_of_brokers
    return client


async def reached(connect: Callable[[], Awaitable[None]]) -> None:
    """Connects, and tries again while the broker is away: one that goes just then must not end a process."""
    while True:
        try:
            await connect()
            return
        except KafkaError as error:
            log.warning("waiting for Kafka: %s", type(error).__name__)
        await asyncio.sleep(BROKER_RETRY_S)


async def started(make: Callable[[], AIOKafkaConsumer]) -> AIOKafkaConsumer:
    """A consumer that has started, waiting for the broker as long as it takes; closed when it is given up meanwhile."""
    made: list[AIOKafkaConsumer] = []

    async def start() -> None:
        consumer = make()
        wary(consumer._client)
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        made.append(consumer)

    await reached(start)
    return made[0]
