"""A log and a store of their own for each test; the store in a child process where it is to be killed."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import groundswell.analytics
from groundswell.analytics.store import schema
from groundswell.engines import ports
from groundswell.kernel import clickhouse, clock, ids, postgres
from groundswell.kernel.bus import frames

PARTITIONS = 4
TENANT = 7


@pytest.fixture
async def frames_topic(kafka_address: str) -> str:
    """A fresh topic of frames, and its dead letters."""
    name = f"frames-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_address)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1), NewTopic(f"{name}.dlq", 1, 1)])
    await admin.close()
    return name


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[postgres.Database]:
    """What the collectors of the platform share."""
    migrations = Path(groundswell.analytics.__path__[0]) / "migrations"
    dsn = await postgres.migrate(postgres_dsn, "analytics", migrations, b"k" * 32)
    async with postgres.opened(dsn, ids.Ids(clock.SystemClock())) as opened:
        yield opened


@pytest.fixture
async def frame_producer(kafka_address: str, frames_topic: str, tmp_path: Path) -> AsyncIterator[frames.FrameProducer]:
    config = frames.FrameSettings(topic=frames_topic, frame_rows_max=50)
    async with frames.opened(kafka_address, tmp_path / "journal", config) as producer:
        yield producer


async def acknowledged(producer: frames.FrameProducer, rows: Sequence[frames.Row]) -> None:
    """Appends rows and waits until the log has all of them."""
    positions = [producer.append(row) for row in rows]
    assert all(await asyncio.gather(*(producer.acknowledged(position, 30.0) for position in positions)))


@dataclass
class WriterProcess:
    """The writer in a child process, with a store that survives it."""

    bootstrap: str
    topic: str
    dsn: str
    status: Path
    group_suffix: str = field(default_factory=lambda: secrets.token_hex(4))
    child: asyncio.subprocess.Process | None = None

    async def start(self, instance: str = "one", **environment: str) -> asyncio.subprocess.Process:
        """Starts it; the environment may hold failpoints and settings of the writer."""
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.analytics.writer_process", "run", self.bootstrap, self.topic, self.dsn, str(self.status), instance,
            env=os.environ | {"PYTHONPATH": "services"} | environment,
        )  # fmt: skip
        return self.child

    async def died(self, timeout_s: float = 40.0) -> int | None:
        """What it ended with by itself; None when it did not."""
        assert self.child is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await self.child.wait()
        return None

    async def stop(self) -> None:
        """Ends it as kill -9 does."""
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            await self.child.wait()

    async def counts(self) -> dict[str, int]:
        """Rows in every table, read by another child while no writer has an embedded store open."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.analytics.writer_process", "count", self.dsn,
            env=os.environ | {"PYTHONPATH": "services"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        answer, _ = await child.communicate()
        found: dict[str, int] = json.loads(answer)
        return found

    def said(self) -> dict[str, int]:
        """What the process itself, or one before it, last said of its tables; nothing where none has yet."""
        found: dict[str, int] = json.loads(self.status.read_text()) if self.status.exists() else {}
        return found

    async def done(self, rows: int, timeout_s: float = 60.0) -> dict[str, int]:
        """What the process itself says of its tables once everything is stored, rolled up and published."""
        async with asyncio.timeout(timeout_s):
            while (found := self.said()).get("done", -1) < rows:
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def writer_process(
    kafka_address: str, frames_topic: str, clickhouse_dsn: str, tmp_path: Path
) -> AsyncIterator[WriterProcess]:
    process = WriterProcess(kafka_address, frames_topic, clickhouse_dsn, tmp_path / "status")
    yield process
    await process.stop()


@dataclass
class Server:
    """A store in a process of its own, for many others."""

    folder: Path
    port: int = field(default_factory=lambda: ports.draw(1)[0])
    child: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"http://default:@127.0.0.1:{self.port}/default"

    @property
    def runs(self) -> bool:
        return self.child is not None and self.child.poll() is None

    async def start(self) -> None:
        """Starts it, and waits until it answers."""
        self._launch()
        async with asyncio.timeout(30):
            while not await self._answers():
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """Ends it as kill -9 does."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    async def clear(self) -> None:
        """Takes out what a test has made."""
        async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=self.dsn)) as store:
            await store.execute(f"DROP DATABASE IF EXISTS {schema.DATABASE} SYNC")
            for (name,) in (await store.query("SELECT name FROM system.tables WHERE database = 'default'")).rows:
                await store.execute(f"DROP TABLE {name} SYNC")

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Statements that are given the value `held` wait meanwhile."""
        hold = self.folder.with_name(f"{self.folder.name}.hold")
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    @property
    def held(self) -> int:
        """How many of those statements are here."""
        return len([*self.folder.parent.glob(f"{self.folder.name}.held/*")])

    def _launch(self) -> None:
        """Not bound to the event loop of the test that first wants it."""
        command = [sys.executable, "-m", "tests.analytics.clickhouse_server", str(self.folder), str(self.port)]
        self.child = subprocess.Popen(command)

    async def _answers(self) -> bool:
        try:
            async with clickhouse.opened(clickhouse.ClickHouseSettings(dsn=self.dsn)) as store:
                await store.query("SELECT 1")
        except clickhouse.StoreUnavailable:
            return False
        return True


@pytest.fixture(scope="session")
def idle_servers() -> Iterator[list[Server]]:
    """Servers that hold nothing, for the next test that wants one: a start takes seconds of a processor."""
    idle: list[Server] = []
    yield idle
    for server in idle:
        server.stop()


@pytest.fixture
async def clickhouse_server(
    idle_servers: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """An empty store that many processes may use."""
    server = idle_servers.pop() if idle_servers else Server(tmp_path_factory.mktemp("server") / "server")
    try:
        if not server.runs:
            await server.start()
        begun = server.child
        yield server
        if server.runs and server.child is begun:
            await server.clear()
            idle_servers.append(server)
    finally:
        if server not in idle_servers:
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)
