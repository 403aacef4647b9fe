"""Void records: offsets of a log of frames that hold nothing, and that every reader passes over.

They fill a log that lost its end up to where it had been, so that no offset is given to a frame twice. A batch of them lies together:
the broker takes it as one, so no frame comes in between.
"""

import asyncio
from collections.abc import Iterable

from aiokafka.errors import KafkaTimeoutError

from groundswell.kernel.bus.producer import Producer, Record

TOGETHER_MAX = 4_096
"""Voids of one batch, about 100 KiB."""
APPEND_S_MAX = 30.0
"""The longest wait for the log to have a batch: aiokafka would wait without end while the broker is away."""
_BATCH_BYTES_MAX = 512 << 10
_HEADER = ("void", b"1")


def is_void(headers: Iterable[tuple[str, bytes]]) -> bool:
    """Whether a record with these headers is one."""
    return _HEADER in headers


async def append(bootstrap: str, topic: str, partition: int, count: int, *, wait_s_max: float = APPEND_S_MAX) -> int:
    """Appends up to 4,096 voids, one behind the other; returns the offset of the first.

    Raises `KafkaError` when it is not known whether the log has them.
    """
    if not 0 < count <= TOGETHER_MAX:
        raise ValueError(f"1 to {TOGETHER_MAX} voids are appended at once, not {count}.")
    void = Record(topic, b"", partition=partition, headers=[_HEADER])
    producer = Producer(bootstrap, enable_idempotence=True, acks="all", max_batch_size=_BATCH_BYTES_MAX)
    try:
        async with asyncio.timeout(wait_s_max):
            return await producer.send_together([void] * count)
    except TimeoutError as error:
        raise KafkaTimeoutError(f"{count} voids for {topic} are not acknowledged.") from error
    finally:
        await producer.close()
