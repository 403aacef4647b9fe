"""A wire between a client and its server that breaks, or goes silent, at words that a test names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit


class Wire:
    """What comes from the client goes on until it holds `words`; then the wire does what `at_words` says. Set `met` by then.

    A wire that `lingers` passes all that the server said, and not that it has gone. One that does it `once` then passes all.
    """

    def __init__(
        self, words: bytes, at_words: Literal["break", "hold"], *, lingers: bool = False, once: bool = False
    ) -> None:
        self._words, self._at_words, self._once = words, at_words, once
        self.lingers = lingers
        self.met = asyncio.Event()

    @asynccontextmanager
    async def to(self, dsn: str) -> AsyncIterator[str]:
        """The address `dsn`, by this wire."""
        far = urlsplit(dsn)
        talks: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if task := asyncio.current_task():
                talks.add(task)
            there = await asyncio.open_connection(far.hostname, far.port)
            back = asyncio.create_task(self._carry(there[0], writer))
            try:
                await self._carry_watched(reader, there[1])
            finally:
                back.cancel()
                for end in (writer, there[1]):
                    end.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield far._replace(netloc=far.netloc.rpartition("@")[0] + f"@127.0.0.1:{port}").geturl()
        finally:
            server.close()
            for task in talks:
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)

    async def _carry_watched(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            if self._words in chunk and not (self._once and self.met.is_set()):
                self.met.set()
                if self._at_words == "break":
                    return
                await asyncio.Event().wait()
            writer.write(chunk)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
        if not self.lingers:
            writer.close()
