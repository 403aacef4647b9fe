"""Goal: what an engine has acknowledged is there after a stop and after a kill, at the same address. Method: the real servers."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.cluster import ClusterMetadata

from groundswell.engines import ports, running, topics
from groundswell.engines.children import Child
from groundswell.engines.engine import Engine, Folders
from groundswell.engines.errors import EngineError
from groundswell.engines.folders import ClickHouse, Objects
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.engines.valkey import Valkey

TOPIC = """
topic: notes.events.v1
partitions: 3
retention_hours: 24
compacted: true
dlq: true
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home in a folder that only its owner may enter, as a home directory of the superuser is."""
    folder = Path(tempfile.mkdtemp(prefix="groundswell-engine-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def started(engine: Engine) -> Child:
    engine.prepare(lambda line: None)
    child = await running.start(engine)
    assert child is not None
    return child


async def killed(child: Child) -> None:
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def test_kafka_keeps_records_over_a_stop_and_a_kill_and_is_healthy_once_it_tells_of_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = Kafka(Folders.under(home, "kafka"), *ports.draw(2))
    (home / "notes.yaml").write_text(TOPIC)
    child = await started(kafka)
    try:
        assert await topics.create(kafka.address, home) == ["notes.events.v1", "notes.events.v1.dlq"]
        assert await topics.create(kafka.address, home) == [], "what is there stays as it is"
        await _send(kafka.address, b"before the stop")
        assert await child.stop() in (0, 128 + signal.SIGTERM), "the JVM ends by the signal that it obeyed"
        child = await started(kafka)
        await _send(kafka.address, b"before the kill")
        await killed(child)
        child = await started(kafka)
        assert await _read(kafka.address, 2) == [b"before the stop", b"before the kill"]
        assert await kafka.healthy()
        monkeypatch.setattr(ClusterMetadata, "brokers", lambda _: set())  # as of one that is fenced
        assert not await kafka.healthy()
    finally:
        await child.stop()


async def test_postgres_keeps_rows_over_a_stop_and_a_kill(home: Path) -> None:
    postgres = Postgres(Folders.under(home, "postgres"), *ports.draw(1))
    child = await started(postgres)
    try:
        await _execute(postgres.address, "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('before the stop')")
        assert await child.stop() == 0
        child = await started(postgres)
        await _execute(postgres.address, "INSERT INTO notes VALUES ('before the kill')")
        await killed(child)
        child = await started(postgres)
        connection = await asyncpg.connect(postgres.address)
        assert await connection.fetchval("SELECT count(*) FROM notes") == 2
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.close()
    finally:
        await child.stop()


async def test_postgres_asks_for_its_password(postgres_dsn: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_dsn, password="a guess")


async def test_valkey_comes_back_empty_and_in_cluster_mode(home: Path) -> None:
    valkey = Valkey(Folders.under(home, "valkey"), *ports.draw(2))
    child = await started(valkey)
    try:
        async with redis.Redis.from_url(valkey.address) as before:
            await before.set("a", 1)
        await killed(child)
        child = await started(valkey)
        async with redis.Redis.from_url(valkey.address) as after:
            assert await after.get("a") is None
            assert (await after.info("server"))["server_mode"] == "cluster"
    finally:
        await child.stop()


async def test_an_engine_that_cannot_start_says_why(home: Path) -> None:
    valkey = Valkey(Folders.under(home, "valkey"), port=1_000_000, bus_port=1)
    valkey.prepare(lambda line: None)
    with pytest.raises(EngineError, match=r"(?s)valkey ended with code 1 while it started.*1000000"):
        await running.start(valkey)


def test_engines_without_a_process_are_folders_with_an_address(home: Path) -> None:
    for engine in (ClickHouse(Folders.under(home, "clickhouse")), Objects(Folders.under(home, "objects"))):
        engine.prepare(lambda line: None)
        assert engine.launch() is None
    assert ClickHouse(Folders.under(home, "clickhouse")).address == f"chdb://{home}/engines/clickhouse"
    assert Objects(Folders.under(home, "objects")).address == f"file://{home}/engines/objects"


async def _send(address: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await producer.send_and_wait("notes.events.v1", value, key=value, partition=0)


async def _read(address: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer("notes.events.v1", bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def _execute(address: str, statement: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute(statement)
    await connection.close()
