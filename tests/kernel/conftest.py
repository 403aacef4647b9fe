"""A database of the kernel's own tests: one tenant table, migrated as every service's is."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from groundswell.kernel import clock, ids, postgres
from groundswell.kernel.bus.producer import Producer
from tests.broker import fresh_topic

KEY = b"k" * 32

NOTES = """
CREATE TABLE notes (tenant_id bigint NOT NULL, id bigint NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id));
CALL isolate_tenants('notes');
"""


@pytest.fixture
def service_name() -> str:
    """A database of its own for each test."""
    return f"notes{secrets.token_hex(4)}"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "001_notes.sql").write_text(NOTES)
    return folder


@pytest.fixture
async def app_dsn(postgres_dsn: str, service_name: str, migrations: Path) -> str:
    return await postgres.migrate(postgres_dsn, service_name, migrations, KEY)


@pytest.fixture
async def database(app_dsn: str) -> AsyncIterator[postgres.Database]:
    async with postgres.opened(app_dsn, ids.Ids(clock.SystemClock()), connections_max=4) as opened:
        yield opened


@pytest.fixture
async def topic(kafka_address: str) -> str:
    """A fresh topic with four partitions, and its dead letters."""
    return await fresh_topic(kafka_address, "notes.events")


@pytest.fixture
async def producer(kafka_address: str) -> AsyncIterator[Producer]:
    made = Producer.of_events(kafka_address)
    yield made
    await made.close()


@pytest.fixture
def names(kafka_address: str, topic: str) -> dict[str, str]:
    """What makes streams of one test members of one group."""
    return {"bootstrap": kafka_address, "group": f"g-{topic}", "topic": topic, "instance": "one"}
