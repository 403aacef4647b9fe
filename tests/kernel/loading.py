"""A broker that is asked through somebody who says, as long as a test likes, that the coordinator is still loading."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

OFFSET_FETCH = 9
WITH_THROTTLE = 3
"""From this version on an answer begins with how long its client is throttled."""
LOADING = 14


class Loading:
    """Passes everything on, but answers each question for committed offsets itself while `on`; `asked` counts those."""

    def __init__(self) -> None:
        self.on = True
        self.asked = 0

    @asynccontextmanager
    async def before(self, address: str) -> AsyncIterator[str]:
        """The address of the broker as it is to be seen: answers that name its port name this one, so that all goes this way."""
        host, _, port = address.rpartition(":")
        talks: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if task := asyncio.current_task():
                talks.add(task)
            there = await asyncio.open_connection(host, int(port))
            back = asyncio.create_task(self._answers(there[0], writer, _place(host, int(port)), _place(host, here)))
            try:
                await self._questions(reader, there[1], writer)
            finally:
                back.cancel()
                for end in (writer, there[1]):
                    end.close()

        server = await asyncio.start_server(talk, host, 0)
        here = server.sockets[0].getsockname()[1]
        try:
            yield f"{host}:{here}"
        finally:
            server.close()
            for task in talks:
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)

    async def _questions(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while question := await _message(reader):
            kind, version, number = struct.unpack_from(">hhi", question)
            if kind == OFFSET_FETCH and self.on:
                self.asked += 1
                answer = (
                    struct.pack(">i", number) + bytes(4 * (version >= WITH_THROTTLE)) + struct.pack(">ih", 0, LOADING)
                )
                back.write(struct.pack(">i", len(answer)) + answer)
            else:
                there.write(struct.pack(">i", len(question)) + question)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: bytes, here: bytes
    ) -> None:
        while answer := await _message(reader):
            writer.write(struct.pack(">i", len(answer)) + answer.replace(far, here))


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The next message; empty at the end of the connection."""
    try:
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _place(host: str, port: int) -> bytes:
    """A host and its port, as Kafka's answers name them."""
    return host.encode() + struct.pack(">i", port)
