"""ClusterIPs and node ports: a forwarder for each, to the endpoints that are ready, as a cluster's proxies do it.

A connection goes to one endpoint and stays with it, whatever becomes of its readiness. One that finds no endpoint, or an endpoint that
refuses it, is reset, and a line of `refusals.log` says so: a visitor would have seen it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.control_plane.api import Object
from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.names import Endpoint, Services

log = logging.getLogger(__name__)

STALE_S = 1.0
"""How old the endpoints may be by which it forwards: the rules of a cluster's proxies are written at most once a second."""
CONNECT_S_MAX = 2.0
CHUNK_BYTES = 64 << 10
PORT_MIN = 1024
"""Ports below are root's alone."""

NODE = "127.0.0.1"
"""Where node ports are."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a Service, at one address of this machine."""

    service: str
    """`namespace/name`."""
    address: str
    number: int
    name: str


@dataclass
class Doors:
    """Keeps one forwarder for each port of a Service with an address."""

    services: Services
    refusals: Path
    _open: dict[Port, asyncio.Server] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _turns: itertools.count[int] = field(default_factory=itertools.count)
    _kept: dict[Port, tuple[float, list[Endpoint]]] = field(default_factory=dict)

    def note(self) -> None:
        """A Service has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            self._changed.clear()
            wanted = {port for each in self.services.services.objects.values() for port in _ports(each)}
            for port in self._open.keys() - wanted:
                self._open.pop(port).close()
            for port in wanted - self._open.keys():
                await self._listen(port)
            await self._changed.wait()

    async def _listen(self, port: Port) -> None:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._forward(port, reader, writer)

        try:
            self._open[port] = await asyncio.start_server(forward, port.address, port.number, backlog=1024)
        except OSError as error:
            log.error("the door of %s at %s:%d stays closed: %s", port.service, port.address, port.number, error)

    async def _forward(self, port: Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoints = self._endpoints(port)
        if not endpoints:
            self._refuse(port, writer, "no endpoint is ready")
            return
        chosen = endpoints[next(self._turns) % len(endpoints)]
        try:
            there = asyncio.open_connection(local(chosen.address), chosen.port)
            far_reader, far_writer = await asyncio.wait_for(there, CONNECT_S_MAX)
        except (OSError, TimeoutError) as error:
            self._refuse(port, writer, f"{chosen.address}:{chosen.port} {error!r}")
            return
        await asyncio.gather(_copied(reader, far_writer), _copied(far_reader, writer))
        for each in (writer, far_writer):
            each.close()

    def _endpoints(self, port: Port) -> list[Endpoint]:
        until_s, kept = self._kept.get(port, (0.0, []))
        if time.monotonic() >= until_s:
            kept = self.services.ready(port.service, port.name)
            self._kept[port] = (time.monotonic() + STALE_S, kept)
        return kept

    def _refuse(self, port: Port, writer: asyncio.StreamWriter, reason: str) -> None:
        writer.transport.abort()
        with self.refusals.open("a") as file:
            file.write(f"{port.service}:{port.number} {reason}\n")


def _ports(service: Object) -> Iterator[Port]:
    """The TCP ports of a Service that has an address and picks pods."""
    spec, metadata = service["spec"], service["metadata"]
    address = spec.get("clusterIP", "None")
    if address in ("", "None") or not spec.get("selector"):
        return
    key = f"{metadata['namespace']}/{metadata['name']}"
    for each in spec.get("ports", []):
        name = each.get("name", "")
        if each.get("protocol", "TCP") == "TCP" and each["port"] >= PORT_MIN:
            yield Port(key, local(address), each["port"], name)
        if "nodePort" in each:
            yield Port(key, NODE, each["nodePort"], name)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end; what breaks one end breaks the other."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
