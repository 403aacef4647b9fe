"""The module `analytics`: the collector and the public AnalyticsService."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.rpc.collector import AnalyticsRpc
from groundswell.analytics.service.collecting import Collector
from groundswell.analytics.settings import AnalyticsSettings
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def analytics(resources: Resources) -> AsyncIterator[Module]:
    """AnalyticsService; it owns no data and may run as often as it is needed."""
    config = resources.settings(AnalyticsSettings)
    collector = Collector(await resources.frames(), resources.clock, resources.internal_key, config.acknowledge_s)
    store, live = Store(resources.channel("writer")), Live(resources.channel("live"))
    yield Module("analytics", servicers=[AnalyticsRpc(collector, store, live, resources.clock, config.answers_kept)])
