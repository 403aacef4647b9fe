"""A ClickHouse server that takes connections and says nothing."""

import asyncio

import pytest

from groundswell.kernel import clickhouse


async def test_a_question_to_a_server_that_is_silent_is_given_up() -> None:
    """Goal: no thread, and no caller, waits for the five minutes that the driver would. The wait here is some seconds."""
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = clickhouse.ClickHouseSettings(dsn=f"http://127.0.0.1:{port}/default", query_s_max=0.1)
    async with server:
        store = clickhouse.ClickHouse(config)
        try:
            async with asyncio.timeout(60):
                with pytest.raises(clickhouse.StoreUnavailable):
                    await store.query("SELECT 1")
            assert connected.is_set()
        finally:
            await asyncio.to_thread(store.close)
