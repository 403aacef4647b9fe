"""The edge of events: tenancy's (a tenant's own domain), our own (what Valkey remembers) and analytics' (click totals)."""

from collections import defaultdict
from collections.abc import Sequence

from groundswell.api.analytics.v1 import analytics_events_pb2
from groundswell.api.tenancy.v1 import tenancy_events_pb2
from groundswell.kernel import bus
from groundswell.kernel.bus.consumer import Handle, HandleBatch
from groundswell.links.model.links import ClickTotal
from groundswell.links.service.domains import Domains
from groundswell.links.service.links import Links

TENANCY_TOPIC = "tenancy.events.v1"
TOTALS_TOPIC = "analytics.totals.v1"
CLICK = "click"
ID_MAX = (1 << 63) - 1


def tenant_created(domains: Domains) -> Handle:
    """Makes the domain of each new tenant; redelivery changes nothing."""

    async def handle(event: bus.Incoming) -> None:
        if event.is_a(tenancy_events_pb2.TenantCreated):
            created: tenancy_events_pb2.TenantCreated = event.parse(tenancy_events_pb2.TenantCreated)
            await domains.make_default(int(created.tenant.name.partition("/")[2]), created.tenant.slug)

    return handle


def totals_changed(links: Links) -> HandleBatch:
    """Takes click totals in. Items above the range of ids are hashes of other things."""

    async def handle(events: Sequence[bus.Incoming]) -> None:
        by_tenant: dict[int, list[ClickTotal]] = defaultdict(list)
        for event in events:
            total: analytics_events_pb2.ItemTotal = event.parse(analytics_events_pb2.ItemTotal)
            if total.kind == CLICK and total.item <= ID_MAX:
                by_tenant[total.tenant_id].append(ClickTotal(total.item, total.events, total.events - total.nonbots))
        for tenant, totals in by_tenant.items():
            await links.take_totals(tenant, totals)

    return handle
