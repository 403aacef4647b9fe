"""The public port: granian inside this process's own event loop, and its end without a lost request."""

import asyncio
import logging
import time
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from groundswell.gateway.http.application import Application
from groundswell.gateway.http.requests import HEADER_BYTES_MAX, TARGET_BYTES_MAX

log = logging.getLogger(__name__)

HEADERS_S_MAX = 10
BACKLOG = 1_024
REQUESTS_MAX = 4_096
"""Requests in progress, streams included; more wait in the kernel's queue."""
POLL_S = 0.01


class PublicPort:
    """One listening address; `run` is the module's task, `drain` its orderly end."""

    def __init__(self, application: Application, address: str, *, accept_s: float, finish_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._application = application
        self._accept_s, self._finish_s = accept_s, finish_s
        self._drained = asyncio.Event()
        buffer_bytes = TARGET_BYTES_MAX + HEADER_BYTES_MAX + 8_192
        self._server: Any = Server(  # typed Any: granian's embedded server is not annotated
            application,
            address=host.strip("[]"),
            port=int(port),
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=REQUESTS_MAX,
            http1_settings=HTTP1Settings(header_read_timeout=HEADERS_S_MAX * 1000, max_buffer_size=buffer_bytes),
            http2_settings=HTTP2Settings(
                max_headers_size=HEADER_BYTES_MAX + TARGET_BYTES_MAX, max_concurrent_streams=200
            ),
            log_enabled=False,
        )

    async def run(self) -> None:
        """Serves until cancelled, or until drained and cancelled."""
        serving = asyncio.create_task(self._server.serve())
        try:
            await serving
            if not self._drained.is_set():
                raise RuntimeError("The public port closed by itself.")
            await asyncio.Event().wait()  # the process ends the task; ending it here would look like its death
        finally:
            if not serving.done():
                self._server.stop()
                await asyncio.wait({serving}, timeout=1.0)

    async def drain(self) -> None:
        """Fails readiness at once, goes on accepting for a moment, lets what is in flight end, then closes the port."""
        application = self._application
        application.draining = True
        await asyncio.sleep(self._accept_s)
        application.streams.close()
        until_s = time.monotonic() + self._finish_s
        while application.in_flight and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)
        if application.in_flight:
            log.warning("%d requests were still in flight when the time to drain was over", application.in_flight)
        self._drained.set()
        self._server.stop()
