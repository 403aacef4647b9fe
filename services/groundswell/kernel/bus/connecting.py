"""Reaching the broker, as often as it takes.

Some things of aiokafka (0.14) are not what they seem. A broker that its controller has fenced, as around a stop or a long sleep, tells
of no broker at all: a client that knows none takes that for a cluster without topics and has started, and whatever then looks for a
coordinator ends for good. A consumer whose start failed half-way can never start. What ends takes a cancellation of whoever waits for
it for its own. And it raises one of its own, half-way, where it waits to fetch again, as it does nearly always while the broker is away:
whoever closed it would end as if told to, without a word. So nobody here has reached a cluster that tells of no broker, each try to start
has a consumer of its own, a cancellation that comes while one is closed is raised behind it, and no other.

And uvloop refuses with `RuntimeError` what is written to a socket that has just been closed, where asyncio drops it. aiokafka takes that
for a mistake of its own: what asked, be it a feed, a group's coordinator or who reads metadata, ended for good. Here such a connection is
broken.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

T = TypeVar("T")

log = logging.getLogger(__name__)

BROKER_RETRY_S = 1.0
END_S_MAX = 3.0
"""How long each part of a consumer may take to close: a process has other things to do when it ends, and is killed soon."""


class Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's connection, which is broken where its socket has been closed under it."""

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        try:
            sent: Awaitable[Any] = super().send(request, expect_response)
            return sent
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"The connection to {self.host}:{self.port} is closed.") from error


conn.AIOKafkaConnection = Connection
"""What makes connections looks there, for whatever client."""


def wary(client: AIOKafkaClient) -> AIOKafkaClient:
    """The same client, whose `bootstrap` raises `NodeNotReadyError` where it is told of no broker."""
    bootstrap = client.bootstrap

    async def told_of_brokers() -> None:
        await bootstrap()
        if not client.cluster.brokers():
            with cancellation_kept():
                await client.close()
            raise NodeNotReadyError("The cluster tells of no broker yet.")

    client.bootstrap = told_of_brokers
    return client


async def reached(connect: Callable[[], Awaitable[T]]) -> T:
    """What `connect` gives, which is tried again while the broker is away: one that goes just then must not end a process."""
    while True:
        try:
            return await connect()
        except KafkaError as error:
            log.warning("waiting for Kafka: %s", type(error).__name__)
        await asyncio.sleep(BROKER_RETRY_S)


async def started_once(make: Callable[[], AIOKafkaConsumer]) -> AIOKafkaConsumer:
    """A consumer that has started; raises `KafkaError` while the broker is away, and leaves nothing open then."""
    consumer = make()
    wary(consumer._client)
    try:
        await consumer.start()
    except BaseException:
        await ended(consumer)
        raise
    return consumer


async def started(make: Callable[[], AIOKafkaConsumer]) -> AIOKafkaConsumer:
    """A consumer that has started, waiting for the broker as long as it takes."""
    return await reached(partial(started_once, make))


@asynccontextmanager
async def opened(make: Callable[[], AIOKafkaConsumer]) -> AsyncIterator[AIOKafkaConsumer]:
    """Such a consumer for the block, closed behind it."""
    consumer = await started(make)
    try:
        yield consumer
    finally:
        await ended(consumer)


async def ended(consumer: AIOKafkaConsumer) -> None:
    """Closes a consumer whole, also where it gives up half-way or its broker does not answer. What it ends with changes nothing."""
    fetcher = consumer._fetcher
    with cancellation_kept():
        for close in (consumer.stop, *((fetcher.close,) if fetcher else ()), consumer._client.close):
            try:
                async with asyncio.timeout(END_S_MAX):
                    await close()
            except (KafkaError, TimeoutError, asyncio.CancelledError) as error:  # ours is raised behind the block
                log.warning("a consumer ended with %s", type(error).__name__)


def told_to_end() -> bool:
    """Whether somebody has cancelled this task; a cancellation that comes to one that nobody has is a library's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raises behind the block a cancellation of this task that came within it, and no other: as something of aiokafka's ends, it takes
    ours for its own, or raises its own."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        with suppress(asyncio.CancelledError):
            yield
    finally:
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
