"""A client that costs little: connections with several requests under way each, answers counted by their status line.

HTTP/1.1 pipelining (RFC 9112, 9.3.2) keeps a server busy with few system calls of the client, so that on two cores the server is what
is measured. Runs as a process of its own: `python -m benchmarks.flood PORT SECONDS < request`.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

CONNECTIONS, UNDER_WAY = 24, 4


@dataclass(frozen=True, slots=True)
class Flooded:
    """Answers by their status, and the seconds that they took."""

    answers: int
    wrong: int
    seconds: float


class _Marks:
    """Counts a mark in a stream of chunks."""

    def __init__(self, mark: bytes) -> None:
        self._mark, self._tail = mark, b""
        self.count = 0

    def read(self, chunk: bytes) -> int:
        """How often the mark ends in this chunk."""
        chunk = self._tail + chunk
        found = chunk.count(self._mark)
        self.count += found
        self._tail = chunk[-len(self._mark) + 1 :]  # too short to hold a whole mark
        return found


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, status: bytes) -> None:
        self._request = request
        self.answers, self.right = _Marks(b"HTTP/1.1 "), _Marks(b"HTTP/1.1 " + status)
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._request * UNDER_WAY)

    def data_received(self, data: bytes) -> None:
        self.right.read(data)
        found = self.answers.read(data)
        if found and self._transport is not None:
            self._transport.write(self._request * found)


async def flood(port: int, seconds: float, request: bytes, status: bytes) -> Flooded:
    """Sends the request again as soon as it is answered."""
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: _Connection(request, status), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    began_s = time.perf_counter()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - began_s
    answers, right = sum(each.answers.count for _, each in pairs), sum(each.right.count for _, each in pairs)
    for transport, _ in pairs:
        transport.abort()
    return Flooded(answers, answers - right, took_s)


async def flooded(port: int, seconds: float, request: bytes, status: bytes) -> Flooded:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.flood", str(port), str(seconds), status.decode()]
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await child.communicate(request)
    return Flooded(**json.loads(told))


if __name__ == "__main__":
    found = asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2]), sys.stdin.buffer.read(), sys.argv[3].encode()))
    print(json.dumps({"answers": found.answers, "wrong": found.wrong, "seconds": found.seconds}))
