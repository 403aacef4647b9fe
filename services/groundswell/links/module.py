"""The wiring of links."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from groundswell.kernel import bus, settings
from groundswell.kernel.bus.publisher import publish_at_last
from groundswell.kernel.bus.relay import relay
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources
from groundswell.links import consumers, events, jobs
from groundswell.links.events import LinkEvents
from groundswell.links.model.addresses import Addresses
from groundswell.links.rpc import LinkRpc
from groundswell.links.service.bulkhead import Bulkhead
from groundswell.links.service.codes import Codes
from groundswell.links.service.corrections import Corrections
from groundswell.links.service.creation import Creation
from groundswell.links.service.denials import Denials
from groundswell.links.service.domains import Domains
from groundswell.links.service.links import Links
from groundswell.links.service.redirects import Redirects
from groundswell.links.service.visits import Visits
from groundswell.links.settings import LinksSettings, PublicDoor
from groundswell.links.store.targets import TargetCache

NEWS_S_MAX = 2.0
"""How long the first call of a new tenant waits for the news of it."""


@asynccontextmanager
async def links(resources: Resources) -> AsyncIterator[Module]:
    """LinkService, the relay of its events, and the consumers that keep domains, caches and totals true."""
    database, clock = await resources.postgres("links"), resources.clock
    addresses, bulkhead = _addresses(resources), Bulkhead()
    cache = TargetCache(await resources.redis(), clock)
    producer, kafka = resources.producer(), resources.kafka
    corrections = Corrections(cache, partial(publish_at_last, producer, resources.ids))
    announce = LinkEvents(addresses)
    domains = Domains(database, bulkhead, cache, addresses, partial(_slug_of, resources), resources.ids, clock)
    codes = Codes(database, _code_secret(resources))
    creation = Creation(database, domains, codes, corrections, announce, resources.ids, clock)
    reads = await resources.reads("links")
    managed = Links(database, reads, domains, corrections, announce, clock)
    denials = Denials(database, reads, domains, resources.ids, clock)
    visits, suspended = Visits(database, bulkhead), resources.tenants.suspended
    redirects = Redirects(database, bulkhead, cache, domains, visits, suspended, clock)
    yield Module(
        "links",
        servicers=[LinkRpc(creation, managed, domains, denials, redirects, addresses, resources.internal_key)],
        tasks={
            "relay": partial(relay, database, producer, corrections.before_publish),
            "domains": partial(
                bus.consume,
                kafka,
                "links.domains",
                [consumers.TENANCY_TOPIC],
                consumers.tenant_created(domains),
                producer,
            ),
            "cache": partial(bus.consume_batches, kafka, "links.cache", [events.TOPIC], corrections.heard, producer),
            "totals": partial(
                bus.consume_batches,
                kafka,
                "links.totals",
                [consumers.TOTALS_TOPIC],
                consumers.totals_changed(managed),
                producer,
            ),
            "engines": partial(jobs.look_for_engines, redirects),
        },
        ready={"redirects": redirects.possible},
    )


def _addresses(resources: Resources) -> Addresses:
    config = resources.settings(LinksSettings)
    port = config.public_port or settings.host_and_port("GATEWAY_ADDRESS", resources.settings(PublicDoor).address)[1]
    return Addresses(config.base_domain, config.home_slug, config.home_hosts, config.public_scheme, port)


async def _slug_of(resources: Resources, tenant: int) -> str | None:
    entry = await resources.tenants.awaited(tenant, NEWS_S_MAX)
    return None if entry is None else entry.slug


def _code_secret(resources: Resources) -> bytes:
    chosen = resources.settings(LinksSettings).code_secret.encode()
    return hmac.digest(chosen or resources.internal_key, b"links.codes", hashlib.sha256)
