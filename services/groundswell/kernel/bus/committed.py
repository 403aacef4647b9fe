"""What a group has committed, as its coordinator says it.

aiokafka's own ways to ask (0.14) overlook an error that stands for the whole answer: a coordinator that is still loading, or is another
broker by now, reads there as "never committed". Here only an explicit "no offset" means that.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from groundswell.kernel.bus.connecting import cancellation_kept, wary

NO_OFFSET = -1
RETRY_S = 0.2


@asynccontextmanager
async def connected(bootstrap: str, request_timeout_ms: int = 40_000) -> AsyncIterator[AIOKafkaClient]:
    """A client to ask with; raises `KafkaError` while the broker is away."""
    client = wary(AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=request_timeout_ms))
    try:
        await client.bootstrap()
        yield client
    finally:
        with cancellation_kept():
            await client.close()


async def committed(
    client: AIOKafkaClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata | None]:
    """The offset and note that `group` committed for each partition, None where it never did; raises `KafkaError` while nobody can say."""
    topics: defaultdict[str, list[int]] = defaultdict(list)
    for tp in partitions:
        topics[tp.topic].append(tp.partition)
    coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
    answer = await client.send(coordinator, OffsetFetchRequest(group, list(topics.items())))
    _raise_for(answer.error_code)
    found: dict[TopicPartition, OffsetAndMetadata | None] = {}
    for topic, places in answer.topics:
        for partition, offset, note, error_code in places:
            _raise_for(error_code)
            found[TopicPartition(topic, partition)] = (
                None if offset == NO_OFFSET else OffsetAndMetadata(offset, note or "")
            )
    if missing := set(partitions) - found.keys():
        raise UnknownTopicOrPartitionError(f"The coordinator of {group} says nothing of {sorted(missing)}.")
    return found


async def committed_within(
    wait_s_max: float, client: AIOKafkaClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata | None]:
    """The same, asked again for so long while the coordinator is not there yet."""
    deadline = asyncio.get_running_loop().time() + wait_s_max
    while True:
        try:
            return await committed(client, group, partitions)
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(RETRY_S)


def _raise_for(error_code: int) -> None:
    if error_code:
        raise for_code(error_code)()
