"""Readings and their rows: what is answered as counted or spooled is in the log, once, whoever is down in between."""

import asyncio
from pathlib import Path

import pytest

from groundswell.gateway.http.requests import Peers
from groundswell.gateway.model import visitors
from groundswell.gateway.model.visitors import Visitors, crawler_patterns
from groundswell.gateway.module import CRAWLERS
from groundswell.gateway.settings import GatewaySettings
from tests.gateway.door import KEY, Door, opened, pb

CHROME = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
DAY_MS = visitors.DAY_MS


def linked(door: Door) -> None:
    door.library.locations["abc"] = pb.FollowCodeResponse(location="https://a.example/")


async def rows(door: Door, expected: int) -> None:
    """Waits until the log holds exactly `expected` rows."""
    async with asyncio.timeout(5):
        while door.log.rows < expected:
            await asyncio.sleep(0.01)
    assert door.log.rows == expected


@pytest.mark.promise("GATEWAY-8")
async def test_every_redirect_says_spooled_and_is_one_row(door: Door) -> None:
    """GATEWAY-8. Hot or not, one answer is one row."""
    linked(door)
    for _ in range(50):
        assert (await door.client.get("/abc")).headers["groundswell-view"] == "spooled"
    await rows(door, 50)


@pytest.mark.promise("GATEWAY-8")
async def test_readers_who_ask_not_to_be_counted_and_heads_are_skipped(door: Door) -> None:
    """GATEWAY-8. DNT, Sec-GPC, `?nostat` and HEAD redirect without a row, on the hot path too."""
    linked(door)
    await door.client.get("/abc")
    for headers in ({"dnt": "1"}, {"sec-gpc": "1"}):
        assert (await door.client.get("/abc", headers=headers)).headers["groundswell-view"] == "skipped"
    assert (await door.client.get("/abc?nostat")).headers["groundswell-view"] == "skipped"
    head = await door.client.head("/abc")
    assert (head.status_code, head.headers["groundswell-view"]) == (302, "skipped")
    await rows(door, 1)


@pytest.mark.promise("GATEWAY-8")
async def test_an_answer_that_failed_is_no_reading(door: Door) -> None:
    """GATEWAY-8. 404 carries no view."""
    assert "groundswell-view" not in (await door.client.get("/none")).headers
    await rows(door, 0)


@pytest.mark.promise("GATEWAY-8")
async def test_while_the_log_is_away_rows_wait_and_when_the_journal_is_full_readers_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """GATEWAY-8. Spooled rows are shipped when the log is back; dropped ones were never promised, and fill no log."""
    async with opened(tmp_path, journal_bytes=8_192) as door:
        linked(door)
        door.log.up = False
        seen = [(await door.client.get("/abc")).headers["groundswell-view"] for _ in range(400)]
        assert seen[0] == "spooled"
        assert seen[-1] == "dropped"
        assert 1 <= sum("readings are not counted" in message for message in caplog.messages) <= 3
        door.log.up = True
        await rows(door, seen.count("spooled"))


@pytest.mark.promise("GATEWAY-8")
async def test_visitors_are_told_apart_by_the_address_that_a_trusted_proxy_gives(tmp_path: Path) -> None:
    """GATEWAY-8. X-Forwarded-For counts only from a trusted peer, and only its untrusted right end."""
    for trusted in ((), ("127.0.0.0/8",)):
        async with opened(
            tmp_path / str(len(trusted)), GatewaySettings(trusted_proxies=trusted, drain_accept_s=0.05)
        ) as door:
            linked(door)
            await door.client.get("/abc", headers={"x-forwarded-for": "evil, 203.0.113.9, 127.0.0.2"})
            await rows(door, 1)
            assert len(door.log.users) == 1
            await door.client.get("/abc", headers={"x-forwarded-for": "203.0.113.10"})
            await rows(door, 2)
            assert len(door.log.users) == (2 if trusted else 1)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::1"),
        ("garbage", None),
        ("garbage, 10.0.0.1", "10.0.0.1"),
        ("", None),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy_of_ours(forwarded: str, address: str | None) -> None:
    """Whatever a client writes to the left of what our proxies append is not believed."""
    import ipaddress

    assert visitors.forwarded_address(forwarded, [ipaddress.ip_network("10.0.0.0/8")]) == address


@pytest.fixture
def seen() -> Visitors:
    return Visitors(KEY, crawler_patterns(CRAWLERS.read_text()))


@pytest.mark.promise("GATEWAY-8")
def test_a_visitor_is_the_same_for_a_day_and_somebody_else_the_next(seen: Visitors) -> None:
    """GATEWAY-8. No address is stored, and hashes of two days cannot be joined."""
    first = seen.visitor("203.0.113.9", CHROME, 5)
    assert first == seen.visitor("203.0.113.9", CHROME, DAY_MS - 1)
    assert first.user != seen.visitor("203.0.113.9", CHROME, DAY_MS).user
    assert first.network != seen.visitor("203.0.113.9", CHROME, DAY_MS).network
    assert first.user != Visitors(b"other key", ["bot"]).visitor("203.0.113.9", CHROME, 5).user
    neighbour = seen.visitor("203.0.113.77", CHROME, 5)
    assert seen.visitor("203.0.113.9", CHROME, 5).network == neighbour.network
    assert seen.visitor("2001:db8:1::1", CHROME, 5).network == seen.visitor("2001:db8:1:2::1", CHROME, 5).network


@pytest.mark.promise("GATEWAY-8")
@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (CHROME, visitors.DESKTOP),
        (b"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", visitors.MOBILE),
        (b"Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/130.0 Mobile Safari/537.36", visitors.MOBILE),
        (b"Mozilla/5.0 (Linux; Android 13; CUBOT X20) Chrome/130.0 Mobile Safari/537.36", visitors.MOBILE),
        (b"Mozilla/5.0 (Linux; Android 14; SM-X910) Chrome/130.0 Safari/537.36", visitors.TABLET),
        (b"Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15", visitors.TABLET),
        (b"Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36", visitors.TV),
        (b"Something/1.0", visitors.UNKNOWN),
        (b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", visitors.MACHINE),
        (b"facebookexternalhit/1.1", visitors.MACHINE),
        (b"curl/8.5.0", visitors.MACHINE),
        (b"python-requests/2.32", visitors.MACHINE),
        (b"Mozilla/5.0 (X11) HeadlessChrome/130.0", visitors.MACHINE),
        (b"", visitors.MACHINE),
    ],
)
def test_devices_and_machines_are_told_by_what_they_say(seen: Visitors, agent: bytes, device: int) -> None:
    """GATEWAY-8. Machines carry the bot flag, and only they."""
    visitor = seen.visitor("203.0.113.9", agent, 5)
    assert visitor.device == device
    assert visitor.flags == (visitors.BOT if device == visitors.MACHINE else 0)


@pytest.mark.promise("GATEWAY-8")
def test_of_a_user_agent_only_the_beginning_is_looked_at(seen: Visitors) -> None:
    """Goal: none takes the patterns the square of 32 KB, nor fills the memory of those that were seen."""
    long = CHROME.ljust(visitors.AGENT_BYTES_MAX, b".") + b"tizen" * 6_000
    assert seen.visitor("203.0.113.9", long, 5) == seen.visitor("203.0.113.9", long[: visitors.AGENT_BYTES_MAX], 5)


@pytest.mark.promise("GATEWAY-10")
def test_a_listener_for_both_versions_of_ip_knows_its_proxies_and_visitors_of_the_older_one() -> None:
    peers = Peers(["10.0.0.0/8"], [], [])
    forwarded = {b"x-forwarded-for": b"203.0.113.9"}
    assert peers.address("::ffff:10.0.0.1", forwarded) == peers.address("10.0.0.1", forwarded) == "203.0.113.9"
    assert peers.address("::ffff:203.0.113.77", forwarded) == "203.0.113.77"
    assert peers.address("2001:db8::1", forwarded) == "2001:db8::1"
