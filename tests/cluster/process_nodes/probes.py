"""Probes of containers, as a kubelet runs them: periods, time limits and thresholds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2

from tests.cluster.control_plane.api import Object

CHECK = "/grpc.health.v1.Health/Check"
HTTP_GOOD = range(200, 400)


@dataclass(frozen=True)
class Place:
    """Where the container that is probed listens, and how a command runs in it."""

    address: str
    """Of this machine."""
    ports: Mapping[str, int]
    """By name."""
    execute: Callable[[Sequence[str]], Awaitable[int]]
    """Runs a command as the container would; its exit code."""

    def port(self, told: int | str) -> int:
        """A port by number or name; raises `ValueError` for a name that no port of the container has."""
        if isinstance(told, int):
            return told
        if told not in self.ports:
            raise ValueError(f"no port of the container is called {told}")
        return self.ports[told]


@dataclass(frozen=True)
class Probe:
    """One probe of a manifest."""

    told: Object
    place: Place

    def figure(self, name: str, default: int) -> int:
        return int(self.told.get(name) or default)

    async def until_judged(self) -> bool:
        """Waits for as many successes or failures in a row as the thresholds say; which of the two it was."""
        return await self.until_changed(None)

    async def until_changed(self, known: bool | None) -> bool:
        """The next judgement that differs from the known one."""
        await asyncio.sleep(self.figure("initialDelaySeconds", 0) if known is None else 0)
        last, times = None, 0
        while True:
            good = await self.tried()
            last, times = good, times + 1 if good is last else 1
            needed = self.figure("successThreshold", 1) if good else self.figure("failureThreshold", 3)
            if times >= needed and good is not known:
                return good
            await asyncio.sleep(self.figure("periodSeconds", 10))

    async def watched(self, judged: Callable[[bool], None]) -> None:
        """Goes on until it is cancelled; `judged` hears each change, the first judgement too."""
        known: bool | None = None
        while True:
            known = await self.until_changed(known)
            judged(known)
            await asyncio.sleep(self.figure("periodSeconds", 10))

    async def tried(self) -> bool:
        """Once, within its time limit."""
        try:
            return await asyncio.wait_for(self._asked(), self.figure("timeoutSeconds", 1))
        except (TimeoutError, OSError, ValueError, grpc.aio.AioRpcError):
            return False

    async def _asked(self) -> bool:
        handler = next(each for each in HANDLERS if each in self.told)
        return await HANDLERS[handler](self.place, self.told[handler])


async def _http(place: Place, told: Object) -> bool:
    host, port = told.get("host") or place.address, place.port(told["port"])
    given = {"Host": f"{host}:{port}", "User-Agent": "process-node", "Connection": "close"}
    headers = given | {each["name"]: each["value"] for each in told.get("httpHeaders", [])}
    lines = [f"GET {told.get('path', '/')} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write("\r\n".join(lines).encode())
        status = (await reader.readline()).split()
    finally:
        writer.close()
    return len(status) > 1 and int(status[1]) in HTTP_GOOD


async def _tcp(place: Place, told: Object) -> bool:
    _, writer = await asyncio.open_connection(told.get("host") or place.address, place.port(told["port"]))
    writer.close()
    return True


async def _grpc(place: Place, told: Object) -> bool:
    async with grpc.aio.insecure_channel(f"{place.address}:{told['port']}") as channel:
        request = health_pb2.HealthCheckRequest(service=told.get("service") or "")
        check = channel.unary_unary(
            CHECK, health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )
        return bool((await check(request)).status == health_pb2.HealthCheckResponse.SERVING)


async def _exec(place: Place, told: Object) -> bool:
    return await place.execute(told["command"]) == os.EX_OK


HANDLERS: Mapping[str, Callable[[Place, Object], Awaitable[bool]]] = {
    "httpGet": _http,
    "tcpSocket": _tcp,
    "grpc": _grpc,
    "exec": _exec,
}
