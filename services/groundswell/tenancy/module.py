"""The wiring of tenancy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from groundswell.kernel.bus.relay import relay
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources
from groundswell.tenancy.rpc import TenantRpc
from groundswell.tenancy.service import Tenants
from groundswell.tenancy.settings import TenancySettings


@asynccontextmanager
async def tenancy(resources: Resources) -> AsyncIterator[Module]:
    """TenantService, and the relay of its events."""
    database = await resources.postgres("tenancy")
    tenants = Tenants(database, resources.ids, resources.clock)
    await resources.eventually("tenancy.found", partial(tenants.found, resources.settings(TenancySettings).first_slug))
    yield Module(
        "tenancy",
        servicers=[TenantRpc(tenants, resources.internal_key)],
        tasks={"relay": partial(relay, database, resources.producer())},
    )
