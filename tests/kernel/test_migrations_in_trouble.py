"""A server that goes silent, or away, while a process migrates: the process goes on without it, and migrates later."""

import asyncio
from pathlib import Path

import pytest

from groundswell.kernel import clock, ids, postgres
from groundswell.kernel.postgres import migrations as migrating

from .conftest import KEY
from .wire import Wire


@pytest.mark.promise("LINKS-4")
@pytest.mark.parametrize("words", [b"pg_advisory_lock", b"CREATE TABLE IF NOT EXISTS migrations"])
async def test_a_start_does_not_wait_for_a_server_that_has_gone_silent(
    postgres_dsn: str, service_name: str, migrations: Path, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    """In a process with everything the door opens last: it stayed shut for as long as the server was frozen."""
    monkeypatch.setattr(migrating, "STATEMENT_S_MAX", 0.5)
    monkeypatch.setattr(migrating, "CLOSE_S_MAX", 0.5)
    app = await postgres.migrate(postgres_dsn, service_name, migrations, KEY)
    async with (
        Wire(words, "hold").to(postgres_dsn) as silent,
        postgres.opened(app, ids.Ids(clock.SystemClock()), prepared=False) as database,
    ):

        async def migrate() -> None:
            await postgres.migrate(silent, service_name, migrations, KEY, lock_s_max=0.2)

        async with asyncio.timeout(30):
            assert not await database.prepare(migrate)


@pytest.mark.parametrize("words", [b"CREATE TABLE notes_more", b"COMMIT"])
async def test_a_server_that_goes_away_amid_a_migration_is_not_taken_for_a_migration_that_is_wrong(
    postgres_dsn: str, service_name: str, migrations: Path, words: bytes
) -> None:
    """Whether the COMMIT was done nobody knows then: the next try finds out."""
    app = await postgres.migrate(postgres_dsn, service_name, migrations, KEY)
    (migrations / "002_more.sql").write_text("CREATE TABLE notes_more (id int);")
    async with postgres.opened(app, ids.Ids(clock.SystemClock()), prepared=False) as database:
        async with Wire(words, "break").to(postgres_dsn) as broken:
            assert not await database.prepare(lambda: postgres.migrate(broken, service_name, migrations, KEY))
        assert await database.prepare(lambda: postgres.migrate(postgres_dsn, service_name, migrations, KEY))
        async with database.platform_tx() as tx:
            assert await tx.fetch("SELECT * FROM notes_more") == []
