"""The module `writer`: frames into the store, rollups, totals, and StoreService. It alone opens the embedded engine."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from groundswell.analytics import events
from groundswell.analytics.consumers import rollups as rolling
from groundswell.analytics.consumers import writer as writing
from groundswell.analytics.rpc.store import StoreRpc
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.service.storing import LogRecord
from groundswell.analytics.settings import AnalyticsSettings, WriterSettings
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import BookStore
from groundswell.analytics.store.queries import QueryStore
from groundswell.analytics.store.ranges import RangeStore
from groundswell.analytics.store.rollups import RollupStore, Total
from groundswell.kernel import clickhouse
from groundswell.kernel.bus.consumer import bury
from groundswell.kernel.bus.frames import FrameSettings, voids
from groundswell.kernel.bus.intents import Membership
from groundswell.kernel.bus.publisher import publish
from groundswell.kernel.modules import Module, Task
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def writer(resources: Resources) -> AsyncIterator[Module]:
    """The store of events and all that writes to it."""
    config, frames = resources.settings(WriterSettings), resources.settings(FrameSettings)
    instance, producer, kafka = resources.instance, resources.producer(), resources.kafka

    async def set_aside(record: LogRecord, reason: Exception) -> None:
        await bury(frames.topic, None, record.value, list(record.headers), reason, writing.GROUP, producer)

    async def publish_totals(totals: Sequence[Total]) -> None:
        await publish(producer, resources.ids, [events.total(*total) for total in totals])

    async with clickhouse.opened(resources.settings(clickhouse.ClickHouseSettings)) as store:
        tables = asyncio.Event()

        async def make_tables() -> None:
            await schema.create(store, config.deduplication_window, instance)
            tables.set()

        await resources.eventually("writer.tables", make_tables)
        ranges, rollups = RangeStore(store, frames.topic), RollupStore(store, frames.topic)
        at_once = resources.settings(AnalyticsSettings).queries_per_tenant
        queries = QueryStore(store, frames.partitions, rollups.adding)
        answering = Answering(queries, BookStore(store), resources.clock, at_once, store.callers)
        stored = writing.Writer(
            Membership(kafka, writing.GROUP, frames.topic, instance=instance),
            ranges,
            resources.clock,
            config,
            set_aside,
            partial(voids.append, kafka, frames.topic),
        )
        rolled = rolling.Rollups(
            Membership(kafka, rolling.GROUP, frames.topic, instance=instance, fetch=False),
            ranges,
            rollups,
            config,
            publish_totals,
        )
        yield Module(
            "writer",
            servicers=[StoreRpc(answering)],
            tasks={"store": partial(_after, tables, stored.run), "rollups": partial(_after, tables, rolled.run)},
            ready={"partitions": stored.ready.is_set},
        )


async def _after(event: asyncio.Event, work: Task) -> None:
    """`work` from when `event` is set: a store that comes late must not be asked for tables that it has not got."""
    await event.wait()
    await work()
