"""Domain events on the wire: protobuf bodies as CloudEvents 1.0 in Kafka's binary mode.

The headers say who, what and when, so that a consumer can route, skip and trace an event without knowing its message.
"""

import builtins
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from aiokafka.structs import ConsumerRecord
from google.protobuf.message import Message

from groundswell.kernel import errors, telemetry

M = TypeVar("M", bound=Message)
Headers = dict[str, str]


class MalformedEvent(errors.Invalid):
    """A record that is not an event of ours; it goes to the dead letters."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to publish. Events of one `key` arrive in order. `tenant` is set when it is not the publishing transaction's.

    One that is `urgent`, since it makes old what somebody may have kept, leaves before the others that wait, with what waits of its key.
    """

    topic: str
    key: str
    message: Message
    tenant: int | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as consumed. `id` is the same each time it is delivered; `tenant` 0 means the platform's own."""

    topic: str
    partition: int
    offset: int
    key: str
    id: str
    type: str
    tenant: int
    time_ms: int
    traceparent: str
    body: bytes
    headers: Sequence[tuple[str, bytes | None]] = ()
    """As they came, those included that nobody here reads: a dead letter keeps them all. Kafka lets a header have no value."""

    def parse(self, kind: builtins.type[M]) -> M:
        """The message; raises `MalformedEvent` when the body is not one of `kind`."""
        try:
            return kind.FromString(self.body)
        except Exception as error:  # protobuf raises DecodeError, or RuntimeError in its other implementations
            raise MalformedEvent(f"The body is not a {kind.DESCRIPTOR.full_name}.") from error

    def is_a(self, kind: builtins.type[Message]) -> bool:
        """Whether the event says that it is a `kind`."""
        return self.type == kind.DESCRIPTOR.full_name


def headers_of(event: Outgoing, event_id: int, tenant: int) -> Headers:
    """The headers of a new event."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(event_id),
        "ce_type": event.message.DESCRIPTOR.full_name,
        "ce_source": f"//groundswell/{event.topic.partition('.')[0]}",
        "ce_subject": event.key,
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce_tenantid": str(tenant if event.tenant is None else event.tenant),
        "content-type": "application/protobuf",
    }
    if parent := telemetry.traceparent():
        headers[telemetry.TRACEPARENT] = parent
    return headers


def wire_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """Headers as Kafka wants them."""
    return [(name, value.encode()) for name, value in headers.items()]


def incoming(record: ConsumerRecord) -> Incoming:
    """The event in a record; raises `MalformedEvent` when its headers or body are missing."""
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    try:
        return Incoming(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=(record.key or b"").decode("utf-8", "replace"),
            id=headers["ce_id"],
            type=headers["ce_type"],
            tenant=int(headers["ce_tenantid"]),
            time_ms=_milliseconds(headers.get("ce_time", "")),
            traceparent=headers.get(telemetry.TRACEPARENT, ""),
            body=bytes(record.value or b""),
            headers=record.headers,
        )
    except (KeyError, ValueError) as error:
        raise MalformedEvent(f"The record is not a CloudEvent of this platform: {error!r}.") from error


def _milliseconds(text: str) -> int:
    if not text:
        return int(time.time() * 1000)
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
