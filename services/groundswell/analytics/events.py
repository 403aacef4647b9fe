"""What analytics publishes: absolute totals of items."""

from groundswell.api.analytics.v1 import analytics_events_pb2 as pb
from groundswell.kernel import bus

TOPIC = "analytics.totals.v1"


def total(tenant: int, kind: str, item: int, events: int, nonbots: int) -> bus.Outgoing:
    """How many events an item has had since the beginning."""
    message = pb.ItemTotal(tenant_id=tenant, kind=kind, item=item, events=events, nonbots=nonbots)
    return bus.Outgoing(TOPIC, f"{tenant}:{kind}:{item}", message, tenant)
