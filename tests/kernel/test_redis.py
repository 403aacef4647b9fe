"""The client of Valkey while the server takes commands and never answers, as behind a network that drops packets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis import asyncio as redis_asyncio

from groundswell.kernel import errors, redis

LATE_S = 10


class Silent:
    """A server that greets and then never answers; `received` has how many commands each read found."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            if count := data.count(b"ECHO"):
                self.received.append(count)
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    made = Silent()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0, limit=1 << 22)
    made.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2"
    async with server:
        yield made


async def ask(client: redis.Redis) -> None:
    with pytest.raises(errors.Unavailable):
        await client.execute("ECHO", "x")


@pytest.mark.promise("LINKS-4")
async def test_of_all_who_ask_a_server_that_is_down_one_finds_out_and_the_others_do_not_wait(silent: Silent) -> None:
    async with redis.opened(silent.url) as client:
        await ask(client)
        asked = 0
        async with asyncio.timeout(LATE_S):
            while len(silent.received) < 4:
                await asyncio.gather(*(ask(client) for _ in range(20)))
                asked += 20
                await asyncio.sleep(0.01)
        assert set(silent.received) == {1}
        assert asked > 100


@pytest.mark.promise("LINKS-4")
async def test_what_waits_to_be_sent_when_the_server_is_found_down_is_not_sent(silent: Silent) -> None:
    at_once = redis.PIPELINES_MAX * redis.BATCH_COMMANDS_MAX
    async with redis.opened(silent.url, answer_s_max=1.0) as client, asyncio.timeout(LATE_S):
        await asyncio.gather(*(ask(client) for _ in range(2 * at_once)))
        assert sum(silent.received) <= at_once


async def test_nobody_waits_for_ever_when_the_driver_fails_in_a_way_of_its_own() -> None:
    class Broken:
        def pipeline(self, *, transaction: bool) -> Any:
            raise ZeroDivisionError

    client = redis.Redis(cast(redis_asyncio.Redis, Broken()))
    async with asyncio.timeout(LATE_S):
        await ask(client)
