"""Void records: offsets of a log of frames that hold nothing, and that every reader passes over.

They fill a log that lost its end up to where it had been, so that no offset is given to a frame twice. A batch of them lies together:
the broker takes it as one, so no frame comes in between.
"""

from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

TOGETHER_MAX = 4_096
"""Voids of one batch, about 100 KiB."""
_BATCH_BYTES_MAX = 512 << 10
_HEADER = ("void", b"1")


def is_void(headers: Iterable[tuple[str, bytes]]) -> bool:
    """Whether a record with these headers is one."""
    return _HEADER in headers


async def append(bootstrap: str, topic: str, partition: int, count: int) -> int:
    """Appends up to 4,096 voids, one behind the other; returns the offset of the first. Raises `KafkaError`."""
    if not 0 < count <= TOGETHER_MAX:
        raise ValueError(f"1 to {TOGETHER_MAX} voids are appended at once, not {count}.")
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", max_batch_size=_BATCH_BYTES_MAX
    )
    try:
        await producer.start()
        batch = producer.create_batch()
        for _ in range(count):
            if batch.append(key=None, value=b"", timestamp=None, headers=[_HEADER]) is None:
                raise ValueError(f"{count} voids are no batch of {_BATCH_BYTES_MAX} bytes.")
        appended = await producer.send_batch(batch, topic, partition=partition)
        return int((await appended).offset)
    finally:
        await producer.stop()
