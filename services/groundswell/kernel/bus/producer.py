"""A connection to the broker that is made when it is first needed, so that no process waits for the broker to start.

Whoever sends repeats what failed, also when it was the connection: the outbox, the journal and the dead letters wait in their places.

An idempotent connection numbers its batches, and aiokafka (0.14) gives the number of a batch that it drops to no other: from then on the
broker refuses all that follow in that partition. Likewise nothing is sent any more once aiokafka's sender has died. So a connection that
lost a record, or whose sender is dead, is given up before the next record, which goes over a new one under a new producer id.
"""

import asyncio
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, ProducerClosed
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

from groundswell.kernel.bus.connecting import cancellation_kept, wary

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS = 10_000
HANDOVER_S_MAX = 30.0
"""The longest wait until a record is handed over: for a connection, for metadata, and for room, which a connection that is given up
meanwhile never has."""
RECORD_BYTES_MAX = 1_048_576
"""A greater record is refused before it is sent, as aiokafka does with one that is sent by itself."""
BATCH_BYTES_MAX = 262_144
"""Of what is handed over together. aiokafka's own 16 KiB hold some forty events, and each batch costs a request's work at both ends."""
CLOSE_S_MAX = 5.0
"""How long the end waits for what was handed over; while the broker is away aiokafka would wait without end."""
DISCONNECT_S_MAX = 1.0

Headers = list[tuple[str, bytes]]

_by_key = DefaultPartitioner()


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
        return cls(bootstrap, enable_idempotence=True, acks="all", linger_ms=2, max_batch_size=BATCH_BYTES_MAX)

    async def send_all(self, records: Sequence[Record]) -> None:
        """Sends the records, in this order; returns when the log has all, raises `KafkaError` when that is not known.

        They go over one connection: where it loses a record, none behind it overtakes it on a connection that another has made meanwhile.
        """
        connection = await self._connected()
        partitions = {
            topic: await self._partitions(connection, topic) for topic in {record.topic for record in records}
        }
        batches = _batches(connection, records, partitions)
        acknowledged = [await self._handed_over(connection, place, batch) for place, batch in batches]
        for each in acknowledged:
            await each

    async def send_together(self, records: Sequence[Record]) -> int:
        """Sends records of one partition, which they name, as one batch: nothing comes in between. Returns the offset of the first.

        Raises `ValueError` when a batch does not hold as many, `KafkaError` when it is not known whether the log has them.
        """
        connection = await self._connected()
        (place,) = {TopicPartition(record.topic, record.partition) for record in records}
        batch = connection.create_batch()
        if not all(_added(batch, record) for record in records):
            raise ValueError(f"{len(records)} records for {place.topic} are more than one batch holds.")
        acknowledged = await self._handed_over(connection, place, batch)
        return int((await acknowledged).offset)

    async def send_and_wait(self, topic: str, value: bytes | None, **record: Any) -> None:
        """Sends one record, as `send_all` does; `record` may hold key, partition and headers."""
        await self.send_all([Record(topic, value, **record)])

    async def close(self) -> None:
        """Delivers what was handed over, for a few seconds at most, and disconnects for good, also when it is cancelled meanwhile."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with cancellation_kept():
            try:
                # Not wait_for: in 3.11 it takes a cancellation for itself that comes as the work ends.
                async with asyncio.timeout(CLOSE_S_MAX):
                    await connection.flush()
            except TimeoutError:
                log.warning("the log does not answer: whoever has what was on its way sends it again")
            finally:
                await _given_up(connection)

    async def _partitions(self, connection: AIOKafkaProducer, topic: str) -> list[int]:
        try:
            async with asyncio.timeout(HANDOVER_S_MAX):
                return sorted(await connection.partitions_for(topic))
        except TimeoutError as error:
            raise KafkaTimeoutError(f"Nothing is known of the topic {topic}.") from error

    async def _handed_over(
        self, connection: AIOKafkaProducer, place: TopicPartition, batch: BatchBuilder
    ) -> asyncio.Future[Any]:
        """What ends when the log has the batch."""
        try:
            async with asyncio.timeout(HANDOVER_S_MAX):
                acknowledged: asyncio.Future[Any] = await connection.send_batch(
                    batch, place.topic, partition=place.partition
                )
        except TimeoutError as error:
            raise KafkaTimeoutError(f"A batch for {place.topic} could not be handed over.") from error
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
                with cancellation_kept():
                    await _given_up(lost)
            if self._connection is None:
                self._connection, self._holed = await _started(self._bootstrap, self._options), False
            return self._connection


async def _started(bootstrap: str, options: Mapping[str, Any]) -> AIOKafkaProducer:
    """A new connection; raises `KafkaError`, also where the broker gives no producer id for half a minute."""
    connection = AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, **options)
    wary(connection.client)
    try:
        async with asyncio.timeout(HANDOVER_S_MAX):
            await connection.start()
    except BaseException as error:
        with cancellation_kept():
            await connection.stop()
        if isinstance(error, TimeoutError):
            raise KafkaTimeoutError("The log gave no connection.") from error
        raise
    return connection


def _batches(
    connection: AIOKafkaProducer, records: Iterable[Record], partitions: Mapping[str, list[int]]
) -> Iterator[tuple[TopicPartition, BatchBuilder]]:
    """The records in batches, those of a partition in their order: to send each by itself is twice the work."""
    filling: dict[TopicPartition, BatchBuilder] = {}
    for record in records:
        place = TopicPartition(record.topic, _partition_of(record, partitions[record.topic]))
        batch = filling.get(place)
        if batch is None or not _added(batch, record):
            if batch is not None:
                yield place, batch
            batch = filling[place] = connection.create_batch()
            _added(batch, record)  # a batch takes its first record whatever its size
    yield from filling.items()


def _partition_of(record: Record, partitions: list[int]) -> int:
    if record.partition is not None:
        return record.partition
    return int(_by_key(record.key, partitions, partitions))


def _added(batch: BatchBuilder, record: Record) -> bool:
    """Whether the batch had room; raises `MessageSizeTooLargeError` for what no batch may hold."""
    added = batch.append(timestamp=None, key=record.key, value=record.value, headers=[*record.headers])
    if added is not None and added.size > RECORD_BYTES_MAX:
        raise MessageSizeTooLargeError(f"A record of {added.size} bytes is more than the {RECORD_BYTES_MAX} allowed.")
    return added is not None


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
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCONNECT_S_MAX):
            await connection.client.close()
