"""The module `analytics`: the collector and the public AnalyticsService."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.rpc.closed import ClosedAnswers
from groundswell.analytics.rpc.collector import AnalyticsRpc
from groundswell.analytics.service.collecting import Collector
from groundswell.analytics.settings import AnalyticsSettings
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.kernel.bus import positions
from groundswell.kernel.bus.frames import FrameSettings
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def analytics(resources: Resources) -> AsyncIterator[Module]:
    """AnalyticsService; of its own it keeps only which request ids were used, and may run as often as it is needed."""
    config, clock = resources.settings(AnalyticsSettings), resources.clock
    producer, database = await resources.frames(), await resources.postgres("analytics")
    collector = Collector(producer, database, clock, resources.internal_key, config.acknowledge_s)
    store, live, frames = (
        Store(resources.channel("writer")),
        Live(resources.channel("live")),
        resources.settings(FrameSettings),
    )
    async with positions.opened(resources.kafka, frames.topic, frames.partitions) as log:
        tops: ClosedAnswers[pb.ListTopItemsResponse] = ClosedAnswers(log, clock, config.answers_kept)
        yield Module("analytics", servicers=[AnalyticsRpc(collector, store, live, clock, tops)])
