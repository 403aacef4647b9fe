"""Tenants as events: each carries the full state, as the API shows it."""

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.api.tenancy.v1 import tenancy_pb2 as pb
from groundswell.kernel import bus
from groundswell.tenancy.model import Tenant

TOPIC = "tenancy.events.v1"


def created(tenant: Tenant) -> bus.Outgoing:
    return bus.Outgoing(TOPIC, str(tenant.id), events_pb.TenantCreated(tenant=to_proto(tenant)), tenant=tenant.id)


def suspended(tenant: Tenant) -> bus.Outgoing:
    return bus.Outgoing(TOPIC, str(tenant.id), events_pb.TenantSuspended(tenant=to_proto(tenant)), tenant=tenant.id)


def resumed(tenant: Tenant) -> bus.Outgoing:
    return bus.Outgoing(TOPIC, str(tenant.id), events_pb.TenantResumed(tenant=to_proto(tenant)), tenant=tenant.id)


def to_proto(tenant: Tenant) -> pb.Tenant:
    """The tenant as API and events show it."""
    message = pb.Tenant(
        name=f"tenants/{tenant.id}",
        slug=tenant.slug,
        display_name=tenant.display_name,
        state=pb.Tenant.SUSPENDED if tenant.suspended else pb.Tenant.ACTIVE,
        revision=tenant.revision,
    )
    message.create_time.FromMilliseconds(tenant.created_ms)
    return message
