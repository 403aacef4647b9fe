"""Kafka as the platform uses it: events out through the outbox, in through consumers, telemetry as frames.

`Outgoing` and `Incoming` are events; `consume` and `consume_batches` apply them at least once, `follow` lets every process hear all of
them. Frames (`bus.frames`) and the relay (`bus.relay`) are imported by their own names.
"""

from groundswell.kernel.bus.consumer import consume, consume_batches
from groundswell.kernel.bus.events import Incoming, MalformedEvent, Outgoing
from groundswell.kernel.bus.feed import Bound, Feed, follow

__all__ = ["Bound", "Feed", "Incoming", "MalformedEvent", "Outgoing", "consume", "consume_batches", "follow"]
