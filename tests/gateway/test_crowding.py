"""How many connections an address may have.

Goal: nobody takes all of the door's places, and nobody is punished who only shares an address. Method: real sockets, on a door that
counts this machine's addresses as well, and the door's own gauge to know when it has looked.
"""

import asyncio
import ipaddress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from groundswell.gateway.http.places import Places, Swept, counted_as
from groundswell.gateway.settings import GatewaySettings
from tests.gateway.door import Door, opened

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG_S = 60.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def settings(**changes: object) -> GatewaySettings:
    return GatewaySettings(drain_accept_s=0.05, headers_s_max=600.0, idle_s_max=600.0, **changes)  # type: ignore[arg-type]  # a test's own shorthand


async def connected(door: Door, count: int) -> list[Connection]:
    return [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(count)]


async def answered(connection: Connection) -> bool:
    """Whether a request over it is."""
    reader, writer = connection
    writer.write(REQUEST)
    async with asyncio.timeout(LONG_S):
        return (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")


async def closed(connection: Connection) -> None:
    """Waits until the door has closed it; nothing was asked over it."""
    async with asyncio.timeout(LONG_S):
        assert await connection[0].read() == b""
    connection[1].close()


async def holding(count: int) -> None:
    """Waits until the door has looked and has so many connections, that of the test's client included."""
    async with asyncio.timeout(LONG_S):
        while REGISTRY.get_sample_value("groundswell_gateway_connections") != count:
            await asyncio.sleep(0.02)


@pytest.mark.promise("GATEWAY-10")
async def test_the_201st_connection_of_an_address_is_closed_and_one_that_ends_frees_its_place(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(connections_uncounted=())) as door:
        held = await connected(door, 199)
        await holding(200)
        for extra in await connected(door, 3):
            await closed(extra)
        assert all([await answered(each) for each in held]), "who was there before stays"
        reader, writer = held.pop()
        writer.write_eof()
        assert await reader.read() == b""
        await holding(199)
        (new,) = await connected(door, 1)
        await holding(200)
        for extra in await connected(door, 1):
            await closed(extra)
        assert await answered(new)
        for _, writer in (*held, new):
            writer.close()


async def test_a_look_that_fails_for_whatever_reason_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks, real = [0], Places.sweep

    def sweep(places: Places) -> Swept:
        looks[0] += 1
        if looks[0] == 1:
            raise ZeroDivisionError
        return real(places)

    monkeypatch.setattr(Places, "sweep", sweep)
    async with opened(tmp_path, settings()) as door:
        (one,) = await connected(door, 1)
        await holding(2)
        assert looks[0] > 1
        one[1].close()


@pytest.mark.promise("GATEWAY-10")
@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"trusted_proxies": ("127.0.0.0/8",), "connections_uncounted": ()}, id="a trusted proxy"),
        pytest.param({}, id="this machine"),
    ],
)
async def test_a_proxy_and_this_machine_may_have_any_number_of_connections(
    tmp_path: Path, config: dict[str, object]
) -> None:
    """All visitors behind a proxy have its address, and connections are no visitors: how many each has is the proxy's to bound."""
    async with opened(tmp_path, settings(connections_per_address_max=2, **config)) as door:
        held = await connected(door, 20)
        await holding(21)
        assert all([await answered(each) for each in held])
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::4", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.2", None),
        ("::ffff:127.0.0.2", None),
        ("::1", None),
        ("2001:db8:ffff::1", None),
    ],
)
def test_addresses_are_counted_one_by_one_and_of_ipv6_by_the_network_that_one_visitor_has(
    address: str, name: str | None
) -> None:
    uncounted = [ipaddress.ip_network(each) for each in ("127.0.0.0/8", "::1/128", "2001:db8:ffff::/48")]
    assert counted_as(address, uncounted) == name
