"""Puts the process together: it waits for the Lease, then watches and reconciles for as long as it holds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from groundswell_operator import health, watching
from groundswell_operator.applying import connecting
from groundswell_operator.applying.errors import NotLeading, RequestFailed
from groundswell_operator.applying.requests import OPERATOR_WRITES_S_MAX, Pace, Requests, wall_clock
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.leading import Lease, Lost
from groundswell_operator.metrics import Metrics
from groundswell_operator.reconciling import Acting, Reconciler
from groundswell_operator.settings import Settings

log = logging.getLogger(__name__)

RELEASE_S_MAX = 5.0


def as_it_is(cluster: Cluster) -> Acting:
    """Steps are carried out by nobody else."""
    return cluster


async def run(
    settings: Settings, acting: Callable[[Cluster], Acting] = as_it_is, clock: Callable[[], float] = wall_clock
) -> int:
    """The operator, until it is told to end (0) or has lost the Lease (1: whoever runs it starts it again).

    `clock` is that of this machine, in seconds since 1970; the Lease goes by how much time passes.
    """
    metrics = Metrics()
    async with connecting.session(settings.identity) as session:
        asking = Requests(session, Pace())
        lease = Lease(asking, settings.namespace, settings.identity, deployment=settings.deployment)
        requests = Requests(session, Pace(OPERATOR_WRITES_S_MAX), lease.left_s, clock)
        cluster = acting(Cluster(requests, settings.namespace))
        reconciler = Reconciler(cluster, metrics, requests.now_s, lease.may_be_late)

        def progressed_s() -> float:
            return reconciler.progressed_s if lease.leads() else lease.looked_s

        async with health.served(settings.bind, settings.port, progressed_s, metrics.text):
            await lease.acquire()
            metrics.leads(True)
            return await _led(lease, requests, reconciler, settings, metrics)


async def _led(lease: Lease, requests: Requests, reconciler: Reconciler, settings: Settings, metrics: Metrics) -> int:
    """Watches and reconciles until one of them ends, or the Lease is lost."""
    # kopf ends every task that began after its own, so ours begin first.
    ours = [asyncio.create_task(lease.keep(), name="lease"), asyncio.create_task(reconciler.run(), name="passes")]
    await asyncio.sleep(0)
    watching_all = watching.watch(settings.namespace, reconciler.wake, reconciler.stir, metrics.heard)
    watch = asyncio.create_task(watching_all, name="watches")
    try:
        done, _ = await asyncio.wait([*ours, watch], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except (Lost, NotLeading) as error:
        log.warning("this process does not lead any more: %s", error)
        return 1
    finally:
        for task in (*ours, watch):
            task.cancel()
        await asyncio.gather(*ours, watch, return_exceptions=True)
        with suppress(RequestFailed, TimeoutError):
            async with asyncio.timeout(RELEASE_S_MAX):
                await lease.release(requests.may_land())
    return 0
