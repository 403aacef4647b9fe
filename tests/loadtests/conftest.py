"""A small server of the tests' own that answers like the redirecting door, and can misbehave on order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Door:
    """Counts what it answers; `stall` holds answers back while it is cleared."""

    port: int = 0
    stored: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)
    open_now: asyncio.Event = field(default_factory=asyncio.Event)
    silent_every: int = 0
    """Each so-many-th request is stored, and its connection closed without an answer."""
    view: bytes = b"spooled"
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.open_now.set()

    async def stop(self) -> None:
        """Goes away as a killed process does: no goodbye to open connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self.open_now.wait()
                self.stored[head.split(" ", 2)[1]] += 1
                self.addresses[head.split("X-Forwarded-For: ")[1].strip()] += 1
                if self.silent_every and self.stored.total() % self.silent_every == 0:
                    writer.transport.abort()
                    return
                writer.write(
                    b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /\r\nGroundswell-View: "
                    + self.view
                    + b"\r\n\r\n"
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    await door.start()
    yield door
    await door.stop()
