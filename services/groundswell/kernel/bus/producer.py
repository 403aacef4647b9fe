"""A connection to the broker that is made when it is first needed, so that no process waits for the broker to start.

Whoever sends repeats what failed, also when it was the connection: the outbox, the journal and the dead letters wait in their places.

An idempotent connection numbers its batches, and aiokafka (0.14) gives the number of a batch that it drops to no other: from then on the
broker refuses all that follow in that partition. Likewise nothing is sent any more once aiokafka's sender has died. So a connection that
lost a record, or whose sender is dead, is given up before the next record, which goes over a new one under a new producer id.
"""

import asyncio
import inspect
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, ProducerClosed

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS = 10_000
HANDOVER_S_MAX = 30.0
"""The longest wait until a record is handed over: for metadata and for room, which a connection that is given up meanwhile never has."""
CLOSE_S_MAX = 5.0
"""How long the end waits for what was handed over; while the broker is away aiokafka would wait without end."""
DISCONNECT_S_MAX = 1.0

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record on its way to the log."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Producer:
    """aiokafka's producer with `options`, connected by the first record; each method raises `KafkaError` while the broker is away."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self._bootstrap, self._options = bootstrap, options
        self._numbered = bool(options.get("enable_idempotence"))
        self._connecting = asyncio.Lock()
        self._connection: AIOKafkaProducer | None = None
        self._holed = self._closed = False

    @classmethod
    def of_events(cls, bootstrap: str) -> "Producer":
        """What events need: idempotent, so that none is doubled or overtaken, and acknowledged by all replicas."""
        return cls(bootstrap, enable_idempotence=True, acks="all", linger_ms=2)

    async def send_all(self, records: Sequence[Record]) -> None:
        """Sends the records, in this order; returns when the log has all, raises `KafkaError` when that is not known.

        They go over one connection: where it loses a record, none behind it overtakes it on a connection that another has made meanwhile.
        """
        connection = await self._connected()
        acknowledged = [await self._handed_over(connection, record) for record in records]
        for each in acknowledged:
            await each

    async def send_and_wait(self, topic: str, value: bytes | None, **record: Any) -> None:
        """Sends one record, as `send_all` does; `record` may hold key, partition and headers."""
        await self.send_all([Record(topic, value, **record)])

    async def close(self) -> None:
        """Delivers what was handed over, for a few seconds at most, and disconnects for good."""
        self._closed = True
        if self._connection is None:
            return
        try:
            # Not wait_for: in 3.11 it takes a cancellation for itself that comes as the work ends.
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._connection.flush()
        except TimeoutError:
            log.warning("the log does not answer: whoever has what was on its way sends it again")
        connection, self._connection = self._connection, None
        await _given_up(connection)

    async def _handed_over(self, connection: AIOKafkaProducer, record: Record) -> asyncio.Future[Any]:
        """What ends when the log has the record."""
        try:
            async with asyncio.timeout(HANDOVER_S_MAX):
                acknowledged: asyncio.Future[Any] = await connection.send(
                    record.topic, record.value, record.key, record.partition, headers=record.headers
                )
        except TimeoutError as error:
            raise KafkaTimeoutError(f"A record for {record.topic} could not be handed over.") from error
        if self._numbered:
            acknowledged.add_done_callback(partial(self._ended, connection))
        return acknowledged

    def _ended(self, connection: AIOKafkaProducer, acknowledged: asyncio.Future[Any]) -> None:
        """Remembers that a record was lost, and with it the number of its batch."""
        if not acknowledged.cancelled() and acknowledged.exception() is not None and connection is self._connection:
            self._holed = True

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._closed:
                raise ProducerClosed
            if self._connection is not None and (self._holed or self._connection._sender.sender_task.done()):
                log.warning("a connection to the log has lost a record, and another one is made")
                lost, self._connection = self._connection, None
                await _given_up(lost)
            if self._connection is None:
                connection = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, **self._options
                )
                try:
                    await connection.start()
                except BaseException:
                    await connection.stop()
                    raise
                self._connection, self._holed = connection, False
            return self._connection


async def _given_up(connection: AIOKafkaProducer) -> None:
    """Ends a connection at once: its requests are not waited for, and whoever waits for a record of it is told.

    aiokafka's own end waits for all of that, so it is done to its parts: the sender and its requests, the waiting records, the sockets.
    """
    sender = connection._sender.sender_task
    tasks = {sender, *inspect.getcoroutinelocals(sender.get_coro()).get("tasks", ())}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    connection._message_accumulator.fail_all(ProducerClosed())
    connection._closed = True  # else aiokafka warns of a producer that nobody closed
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCONNECT_S_MAX):
            await connection.client.close()
    if task and task.cancelling() > cancelled:  # aiokafka takes a cancellation for itself that comes meanwhile
        raise asyncio.CancelledError
