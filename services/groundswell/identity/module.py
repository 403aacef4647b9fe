"""The wiring of identity."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from groundswell.identity.clients import Tenants
from groundswell.identity.rpc import ApiKeyRpc
from groundswell.identity.service import ApiKeys
from groundswell.identity.settings import IdentitySettings
from groundswell.kernel.bus.relay import relay
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def identity(resources: Resources) -> AsyncIterator[Module]:
    """ApiKeyService, and the relay of revocations."""
    database = await resources.postgres("identity")
    keys = ApiKeys(database, Tenants(resources.channel("tenancy")), resources.ids, resources.clock)
    first = resources.settings(IdentitySettings).bootstrap_keys
    await resources.eventually("identity.found", partial(keys.found, first))
    yield Module(
        "identity",
        servicers=[ApiKeyRpc(keys, resources.internal_key)],
        tasks={"relay": partial(relay, database, resources.producer())},
    )
