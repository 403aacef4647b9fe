"""A ClickHouse server that takes connections and says nothing. The wait here is some seconds."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from groundswell.kernel import clickhouse


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[clickhouse.ClickHouse, asyncio.Event]]:
    """A store behind such a server, and when somebody has connected to it."""
    connected = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = clickhouse.ClickHouseSettings(dsn=f"http://127.0.0.1:{port}/default", query_s_max=0.1)
    async with server:
        store = clickhouse.ClickHouse(config)
        try:
            async with asyncio.timeout(60):
                yield store, connected
        finally:
            await asyncio.to_thread(store.close)


async def test_a_question_to_a_server_that_is_silent_is_given_up() -> None:
    """Goal: no thread, and no caller, waits for the five minutes that the driver would."""
    async with silent() as (store, connected):
        with pytest.raises(clickhouse.StoreUnavailable):
            await store.query("SELECT 1")
        assert connected.is_set()


async def test_what_becomes_of_a_question_that_nobody_waits_for_any_more_is_no_error() -> None:
    """It would be told as one that was never looked at, with a stack trace."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with silent() as (store, connected):
        asked = asyncio.ensure_future(store.query("SELECT 1"))
        await connected.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        del asked
        gc.collect()
    assert not told
