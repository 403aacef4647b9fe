"""Engines of a release's own, outside of the cluster: the platform gives them its databases, topics and passwords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from groundswell.engines import ports, running
from groundswell.engines.children import Child
from groundswell.engines.engine import Engine, Folders
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.engines.valkey import Valkey
from tests.analytics.conftest import Server


@dataclass
class Engines:
    """The engines, none of which runs at first."""

    folder: Path
    children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        def folders(name: str) -> Folders:
            return Folders.under(self.folder, name)

        self.kafka = Kafka(folders("kafka"), *ports.draw(2))
        self.postgres = Postgres(folders("postgres"), *ports.draw(1))
        self.valkey = Valkey(folders("valkey"), *ports.draw(2))
        self.clickhouse = Server(self.folder / "clickhouse")
        for engine in self._children():
            engine.prepare(print)

    def _children(self) -> Sequence[Engine]:
        return self.kafka, self.postgres, self.valkey

    def addresses(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "POSTGRES_DSN": self.postgres.address,
            "REDIS_URL": self.valkey.address,
            "CLICKHOUSE_DSN": self.clickhouse.dsn,
        }

    async def start(self) -> None:
        for engine in self._children():
            child = await running.start(engine)
            assert child is not None
            self.children.append(child)
        await self.clickhouse.start()

    async def stop(self) -> None:
        self.clickhouse.stop()
        for child in self.children:
            await child.stop()
