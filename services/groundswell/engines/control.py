"""The supervisor's control socket: one JSON line asks, JSON lines answer.

    {"do": "restart", "name": "writer", "settings": {"KEY": "VALUE"}}
    {"say": "writer: starting (pid 71)"}        any number of them, while it happens
    {"done": "…"} or {"error": "…"}             the last one

Who speaks HTTP instead is answered by `http_control`. The socket belongs to its user alone (0600); nothing listens on the network.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from groundswell.engines import http_control
from groundswell.engines.errors import SupervisorError

SOCKET_PATH_MAX = 100
"""The system allows 108 bytes; a longer path is reached through the folder's descriptor."""
LINE_BYTES_MAX = 1 << 20
LAST_WORDS_S_MAX = 2.0
"""How long answers may still take when the supervisor ends."""

Say = Callable[[str], None]
Request = dict[str, Any]
Answer = Callable[[Request, Say], Awaitable[str]]
"""Does what is asked, tells how it goes, and returns the last line; raises `SupervisorError`."""


@asynccontextmanager
async def serve(
    socket: Path, answer: Answer, processes: http_control.Processes, scale: http_control.Scale
) -> AsyncIterator[None]:
    """Answers requests on `socket`: lines by `answer`, HTTP by the other two."""

    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            talks.add(task)
            task.add_done_callback(talks.discard)

        def send(message: dict[str, str]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")

        try:
            first = await reader.readline()
            if first.startswith(b"{"):
                try:
                    send({"done": await answer(json.loads(first), lambda line: send({"say": line}))})
                except SupervisorError as error:
                    send({"error": str(error)})
            else:
                await http_control.talk(first, reader, writer, processes, scale)
            await writer.drain()
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the other side left, or never spoke our language
        finally:
            writer.close()

    socket.unlink(missing_ok=True)
    with _reachable(socket) as path:
        server = await asyncio.start_unix_server(talk, path, limit=LINE_BYTES_MAX)
    socket.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        socket.unlink(missing_ok=True)
        if talks:
            await asyncio.wait(talks, timeout=LAST_WORDS_S_MAX)


class NoAnswer(SupervisorError):
    """The supervisor ended while it was asked."""


async def ask(socket: Path, request: Request, say: Say) -> str:
    """Sends a request and follows it to its end; raises `SupervisorError` with the supervisor's words, `OSError` when none listens."""
    with _reachable(socket) as path:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        async for line in reader:
            match json.loads(line):
                case {"say": str(text)}:
                    say(text)
                case {"done": str(text)}:
                    return text
                case {"error": str(text)}:
                    raise SupervisorError(text)
        raise NoAnswer(f"The supervisor ended before it answered. Its log: {socket.parent / 'logs' / 'supervisor.log'}")
    finally:
        writer.close()


@contextmanager
def _reachable(socket: Path) -> Iterator[str]:
    """A path short enough for a socket's address, while the block runs."""
    if len(os.fsencode(socket)) <= SOCKET_PATH_MAX:
        yield str(socket)
        return
    folder = os.open(socket.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{socket.name}"
    finally:
        os.close(folder)
