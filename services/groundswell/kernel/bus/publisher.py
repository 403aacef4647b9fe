"""Publishing what is absolute: events that say how things stand, and so need no outbox.

Whoever publishes repeats the newest state after a crash; consumers keep the newest, so nothing is lost by sending twice.
"""

import asyncio
import logging
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from groundswell.kernel.bus.events import Outgoing, headers_of, wire_headers
from groundswell.kernel.bus.producer import Producer, Record
from groundswell.kernel.ids import Ids

log = logging.getLogger(__name__)

IN_FLIGHT_MAX = 5_000
RETRY_S = 0.5


async def publish(producer: Producer, ids: Ids, events: Sequence[Outgoing]) -> None:
    """Sends the events; returns when the log has all of them, raises `KafkaError` when that is not known."""
    for at in range(0, len(events), IN_FLIGHT_MAX):
        await producer.send_all([_record(event, ids.next()) for event in events[at : at + IN_FLIGHT_MAX]])


async def publish_at_last(producer: Producer, ids: Ids, events: Sequence[Outgoing]) -> None:
    """Sends the events until the log has all of them, however long that takes; some may come twice."""
    while True:
        try:
            return await publish(producer, ids, events)
        except KafkaError as error:
            log.warning("%d events wait for Kafka: %s", len(events), type(error).__name__)
        await asyncio.sleep(RETRY_S)


def _record(event: Outgoing, event_id: int) -> Record:
    headers = wire_headers(headers_of(event, event_id, event.tenant or 0))
    return Record(event.topic, event.message.SerializeToString(), event.key.encode(), headers=headers)
