"""Who stands behind the names of Services: the endpoints that are ready, and a name server that tells them."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.cluster.control_plane.api import Object
from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.watching import Reflector

SERVICE_NAME = "kubernetes.io/service-name"
TTL_S = 5
"""How long an answer is repeated before endpoints are looked at again: as stale as a cluster's resolvers let answers become."""
KEPT_MAX = 1_000
ANSWERS_MAX = 30
"""More addresses do not fit into one datagram of 512 bytes."""
A, IN = 1, 1
NAME_OF_QUESTION = 0xC00C
"""A pointer to the first name of the datagram."""
NO_ERROR, NO_NAME = 0, 3
_HEAD, _RECORD = struct.Struct(">HHHHHH"), struct.Struct(">HHHIH4s")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One process behind a Service."""

    address: str
    """Of the cluster."""
    port: int


@dataclass(frozen=True)
class Services:
    """The Services and EndpointSlices of the cluster."""

    services: Reflector
    slices: Reflector

    def cluster_address(self, key: str) -> str | None:
        """The ClusterIP of the Service `namespace/name`; empty where it is headless, None where there is none."""
        service = self.services.objects.get(key)
        if service is None:
            return None
        address = service["spec"].get("clusterIP", "")
        return "" if address in ("", "None") else str(address)

    def ready(self, key: str, port_name: str | None = None) -> list[Endpoint]:
        """Its ready endpoints by the port of that name, or by their first."""
        return sorted(
            {
                Endpoint(address, port["port"])
                for each in self._slices(key)
                for port in each.get("ports") or []
                if port_name is None or port.get("name", "") == port_name
                for endpoint in each.get("endpoints") or []
                if endpoint.get("conditions", {}).get("ready")
                for address in endpoint["addresses"]
            },
            key=lambda each: (each.address, each.port),
        )

    def addresses(self, key: str) -> list[str] | None:
        """What the name server answers; None where there is no such Service."""
        address = self.cluster_address(key)
        if address is None:
            return None
        return [address] if address else sorted({each.address for each in self.ready(key)})

    def _slices(self, key: str) -> Iterator[Object]:
        namespace, _, name = key.partition("/")
        for each in self.slices.objects.values():
            metadata = each["metadata"]
            if metadata["namespace"] == namespace and metadata.get("labels", {}).get(SERVICE_NAME) == name:
                yield each


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers A queries for `<service>.<namespace>.svc.cluster.local` (RFC 1035) with the addresses of this machine."""

    services: Services
    _kept: dict[str, tuple[float, list[str] | None]] = field(default_factory=dict)

    async def start(self) -> str:
        """Listens; its `host:port`."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._transport.sendto(self._answer(data), address)
        except (struct.error, IndexError, UnicodeDecodeError):
            return  # no query

    def _answer(self, data: bytes) -> bytes:
        labels, end = _labels(data)
        asked, _ = struct.unpack_from(">HH", data, end)
        found = self._addresses(".".join(labels).lower())
        told = (found or [])[:ANSWERS_MAX] if asked == A else []
        records = b"".join(
            _RECORD.pack(NAME_OF_QUESTION, A, IN, TTL_S, 4, socket.inet_aton(local(each))) for each in told
        )
        code = NO_NAME if found is None else NO_ERROR
        (number,) = struct.unpack_from(">H", data)
        return _HEAD.pack(number, 0x8580 | code, 1, len(told), 0, 0) + data[_HEAD.size : end + 4] + records

    def _addresses(self, name: str) -> list[str] | None:
        until_s, kept = self._kept.get(name, (0.0, None))
        if time.monotonic() < until_s:
            return kept
        service, _, rest = name.partition(".")
        namespace, _, domain = rest.partition(".")
        if len(self._kept) == KEPT_MAX:
            self._kept.clear()
        found = self.services.addresses(f"{namespace}/{service}") if domain == "svc.cluster.local" else None
        self._kept[name] = (time.monotonic() + TTL_S, found)
        return found


def _labels(data: bytes) -> tuple[list[str], int]:
    """The labels of the first question, and where its type begins."""
    labels, at = [], _HEAD.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return labels, at + 1
