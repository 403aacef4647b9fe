"""Revocations, as every process hears them."""

from groundswell.api.identity.v1 import identity_events_pb2 as events_pb
from groundswell.kernel import bus

TOPIC = "identity.revocations.v1"


def key_revoked(key: int, tenant: int, now_ms: int) -> bus.Outgoing:
    message = events_pb.AccessRevoked(key_id=key, tenant_id=tenant)
    message.not_before.FromMilliseconds(now_ms)
    return bus.Outgoing(TOPIC, f"key/{key}", message, tenant=tenant)
