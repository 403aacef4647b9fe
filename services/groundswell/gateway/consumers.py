"""The purge feed: events whose message says which tags they make old.

Every process hears every event; nothing is committed, for a process that starts has nothing kept.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from groundswell.api.gateway.v1 import edge_pb2
from groundswell.gateway.http import rendering
from groundswell.gateway.http.routes import field_at, tag_fields
from groundswell.kernel import bus

log = logging.getLogger(__name__)


class Purges:
    """Turns events into purged tags. `events` are the messages that may come; those without the option are ignored."""

    def __init__(self, events: Iterable[Descriptor], purge: Callable[[str], object]) -> None:
        self._purge = purge
        self._purging: Mapping[str, tuple[type[Message], tuple[str, ...]]] = {
            event.full_name: (message_factory.GetMessageClass(event), _tags(event)) for event in events if _tags(event)
        }

    def hear(self, event: bus.Incoming) -> None:
        """Purges what `event` makes old; an event that cannot be read is logged, and its answers end with their time."""
        purging = self._purging.get(event.type)
        if purging is None:
            return
        kind, tags = purging
        message: Message = event.parse(kind)
        for tag in tags:
            self._purge(rendering.tag(tag, message))


def _tags(event: Descriptor) -> tuple[str, ...]:
    tags = tuple(event.GetOptions().Extensions[edge_pb2.purges])
    for tag in tags:
        for path in tag_fields(tag):
            field_at(event, path)
    return tags
