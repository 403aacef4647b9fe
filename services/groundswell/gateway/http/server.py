"""The public port: granian inside this process's own event loop, and its end without a lost request.

granian counts connections, not requests: one that a browser keeps open after its answer has a place until it ends. So there are as many
places as descriptors allow, and once half of them are taken visitors are asked to go (`Stay`): without that a spike of new
visitors would soon wait for the connections of those who have read their answer.
"""

import asyncio
import logging
import time
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server
from prometheus_client import Counter, Gauge

from groundswell.gateway.http.application import Application
from groundswell.gateway.http.places import Places
from groundswell.gateway.http.requests import HEADER_BYTES_MAX, TARGET_BYTES_MAX
from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import settings

log = logging.getLogger(__name__)

_OPEN = Gauge("groundswell_gateway_connections", "Open connections, as of the last look at them.")
_SILENT = Counter(
    "groundswell_gateway_silent_total", "Connections that were ended because nothing came or went on them."
)
_CROWDING = Counter(
    "groundswell_gateway_crowding_total", "Connections that were ended because their address had too many."
)

BACKLOG = 1_024
"""Connections beyond the places wait in the kernel's queue, this many of them."""
POLL_S = 0.01
SWEEP_S = 1.0
"""How often connections are looked at; those that may not stay live this much longer."""
CROWDING_LOG_S = 60.0
CROWDED = (
    "%d connections were ended whose addresses had over %d; a proxy, or a node that hides its visitors' addresses, belongs into "
    "GATEWAY_TRUSTED_PROXIES or GATEWAY_CONNECTIONS_UNCOUNTED"
)
CLOSE_S_MAX = 1.0
"""How long the server may take to end what it serves with, once it is told to."""


class PublicPort:
    """One listening address; `run` is the module's task, `drain` its orderly end."""

    def __init__(self, application: Application, config: GatewaySettings) -> None:
        host, self._port = settings.host_and_port("GATEWAY_ADDRESS", config.address)
        self._application, self._config = application, config
        self._drained = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._places = Places(
            self._port,
            head_s=config.headers_s_max,
            idle_s=config.idle_s_max,
            per_address_max=config.connections_per_address_max,
            uncounted=(*config.trusted_proxies, *config.connections_uncounted),
        )
        buffer_bytes = TARGET_BYTES_MAX + HEADER_BYTES_MAX + 8_192
        self._server: Any = Server(  # typed Any: granian's embedded server is not annotated
            application,
            address=host,
            port=self._port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=application.stay.places,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(config.headers_s_max * 1000), max_buffer_size=buffer_bytes
            ),
            http2_settings=HTTP2Settings(
                max_headers_size=HEADER_BYTES_MAX + TARGET_BYTES_MAX, max_concurrent_streams=200
            ),
            log_enabled=False,
        )

    async def run(self) -> None:
        """Serves until cancelled, or until drained and cancelled."""
        serving = self._serving = asyncio.create_task(self._server.serve())
        sweeping = asyncio.create_task(self._sweep())
        try:
            await serving
            if not self._drained.is_set():
                raise RuntimeError("The public port closed by itself.")
            await asyncio.Event().wait()  # the process ends the task; ending it here would look like its death
        finally:
            sweeping.cancel()
            if not serving.done():
                self._server.stop()
                await asyncio.wait({serving}, timeout=CLOSE_S_MAX)

    async def drain(self) -> None:
        """Fails readiness at once, goes on accepting for a moment, lets what is in flight end, then closes the port."""
        application = self._application
        application.draining = True
        await asyncio.sleep(self._config.drain_accept_s)
        application.streams.close()
        until_s = time.monotonic() + self._config.drain_s
        while application.in_flight and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)
        if application.in_flight:
            log.warning("%d requests were still in flight when the time to drain was over", application.in_flight)
        self._drained.set()
        self._server.stop()
        if self._serving is not None:  # whoever cancels it before it has ended finds the server's error in the log
            await asyncio.wait({self._serving}, timeout=CLOSE_S_MAX)

    async def _sweep(self) -> None:
        """Ends connections that may not stay; in a thread, for there may be thousands to look at."""
        said_s = float("-inf")
        _OPEN.set(0)
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                swept = await asyncio.to_thread(self._places.sweep)
            except OSError as error:  # no descriptor is left to look with: some end by themselves
                log.warning("connections could not be looked at: %s", error)
                self._application.stay.lose_sight()
                continue
            except Exception:  # whatever it is, the next look may do better, and nobody else looks
                log.exception("connections could not be looked at")
                self._application.stay.lose_sight()
                continue
            _OPEN.set(len(swept.open))
            self._application.stay.look(swept.open)
            _SILENT.inc(swept.silent)
            _CROWDING.inc(swept.crowding)
            if swept.crowding and time.monotonic() > said_s + CROWDING_LOG_S:
                said_s = time.monotonic()
                log.warning(CROWDED, swept.crowding, self._config.connections_per_address_max)
