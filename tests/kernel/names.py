"""A name server on loopback, for names that stand for many processes and change while they are used."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

HEADER_BYTES = 12
ADDRESS, INTERNET = 1, 1
ANSWER, NO_SUCH_NAME = 0x8180, 0x8183
POINTER_TO_QUESTION = 0xC00C


class Names(asyncio.DatagramProtocol):
    """Answers questions for IPv4 addresses out of a mapping that may change; other names do not exist (RFC 1035)."""

    def __init__(self, addresses: Mapping[str, list[str]]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _name(data)
        (kind,) = struct.unpack_from(">H", data, end)
        known = self._addresses.get(name)
        found = known or [] if kind == ADDRESS else []
        flags = NO_SUCH_NAME if known is None else ANSWER
        reply = data[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + data[HEADER_BYTES : end + 4]
        for address in found:
            reply += struct.pack(">HHHIH", POINTER_TO_QUESTION, ADDRESS, INTERNET, 0, 4) + socket.inet_aton(address)
        self._transport.sendto(reply, addr)


def _name(data: bytes) -> tuple[str, int]:
    """The name in the question, and where it ends."""
    labels, at = [], HEADER_BYTES
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1


@asynccontextmanager
async def named(addresses: Mapping[str, list[str]]) -> AsyncIterator[str]:
    """`host:port` of a name server for these, until the block ends."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Names(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        host, port = transport.get_extra_info("sockname")
        yield f"{host}:{port}"
    finally:
        transport.close()
