"""What lies between the door and its service, and can be cut."""

import asyncio
from contextlib import suppress


class Wire:
    """A relay: `cut` breaks every connection that goes through it, and new ones are taken as before."""

    def __init__(self) -> None:
        self._to = ("", 0)
        self._ends: set[asyncio.StreamWriter] = set()

    async def open(self, to: str) -> str:
        """The address at which one reaches `to`."""
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, beyond = await asyncio.open_connection(*self._to)
            self._ends |= {writer, beyond}
            await asyncio.gather(self._carry(reader, beyond), self._carry(there, writer))
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        self._ends.discard(writer)
        writer.close()

    def cut(self) -> None:
        for each in self._ends:
            each.transport.abort()

    def close(self) -> None:
        self.cut()
        self._server.close()
