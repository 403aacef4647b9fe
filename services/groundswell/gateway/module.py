"""Wiring of the gateway, and the list of what is behind it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from groundswell.api.analytics.v1 import analytics_pb2
from groundswell.api.gateway.v1 import gateway_pb2
from groundswell.api.identity.v1 import identity_pb2
from groundswell.api.links.v1 import links_events_pb2, links_pb2
from groundswell.api.tenancy.v1 import tenancy_pb2
from groundswell.gateway import jobs
from groundswell.gateway.clients import Upstreams
from groundswell.gateway.consumers import Purges
from groundswell.gateway.events import Views
from groundswell.gateway.http import console, descriptors
from groundswell.gateway.http.application import Application
from groundswell.gateway.http.openapi import document
from groundswell.gateway.http.places import Stay
from groundswell.gateway.http.routes import RouteTable
from groundswell.gateway.http.server import PublicPort
from groundswell.gateway.model.answers import NearCache
from groundswell.gateway.model.visitors import Visitors, crawler_patterns
from groundswell.gateway.rpc import GatewayRpc
from groundswell.gateway.service.answers import Answers
from groundswell.gateway.service.patience import Patience
from groundswell.gateway.settings import GatewaySettings
from groundswell.gateway.store import SupervisorState
from groundswell.kernel import bus
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources

SERVICES: Mapping[str, Sequence[ServiceDescriptor]] = {
    "tenancy": tuple(tenancy_pb2.DESCRIPTOR.services_by_name.values()),
    "identity": tuple(identity_pb2.DESCRIPTOR.services_by_name.values()),
    "links": tuple(links_pb2.DESCRIPTOR.services_by_name.values()),
    "analytics": tuple(analytics_pb2.DESCRIPTOR.services_by_name.values()),
    "gateway": tuple(gateway_pb2.DESCRIPTOR.services_by_name.values()),
}
"""The modules behind the door and what each serves; a new method of theirs needs no line here."""

PURGING: Mapping[str, Sequence[Descriptor]] = {
    "links.events.v1": tuple(links_events_pb2.DESCRIPTOR.message_types_by_name.values()),
}
"""Topics whose events purge kept answers."""

CRAWLERS = Path(__file__).with_name("crawlers.txt")


@asynccontextmanager
async def gateway(resources: Resources) -> AsyncIterator[Module]:
    """The gateway of this process."""
    config = resources.settings(GatewaySettings)
    table = RouteTable(SERVICES)
    upstreams = Upstreams(resources.channel)
    cache = NearCache(config.cache_bytes_max)
    purges = Purges([event for events in PURGING.values() for event in events], cache.purge)
    bound = bus.Bound(config.feed_lag_s_max, cache.clear)
    feed = bus.follow(resources.kafka, list(PURGING), purges.hear, from_start=False, bound=bound)
    patience = Patience(resources.clock)
    answers = Answers(cache, patience, resources.clock, feed.lag_s, config.feed_lag_s_max, resources.tenants.suspended)
    visitors = Visitors(resources.internal_key, crawler_patterns(CRAWLERS.read_text()))
    application = Application(
        table=table,
        upstreams=upstreams,
        verifier=resources.verifier(),
        refuse=resources.tenants.refuse_suspended,
        answers=answers,
        patience=patience,
        views=Views(await resources.frames(), visitors, resources.clock),
        config=config,
        openapi=document(table),
        files=console.load(Path(config.console)),
        stay=Stay(descriptors.room(config.connections_max)),
    )
    port = PublicPort(application, config)
    yield Module(
        "gateway",
        servicers=[GatewayRpc(table, upstreams, SupervisorState(resources.process.state_file))],
        tasks={"port": port.run, "purges": feed.run, "sweep": partial(jobs.sweep, answers)},
        drain=port.drain,
    )
