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
    app, wire = await postgres.migrate(postgres_dsn, service_name, migrations, KEY), Wire(words, "hold")
    monkeypatch.setattr(migrating, "STATEMENT_S_MAX", 2.0)
    monkeypatch.setattr(migrating, "CLOSE_S_MAX", 0.5)
    async with (
        wire.to(postgres_dsn) as silent,
        postgres.opened(app, ids.Ids(clock.SystemClock()), prepared=False) as database,
    ):

        async def migrate() -> None:
            await postgres.migrate(silent, service_name, migrations, KEY, lock_s_max=0.2)

        async with asyncio.timeout(30):
            assert not await database.prepare(migrate)
    assert wire.met.is_set()


async def test_a_migration_that_the_server_gives_no_time_is_named(
    postgres_dsn: str, service_name: str, migrations: Path
) -> None:
    """It would be cancelled each time, so to try again is to say nothing for ever."""
    (migrations / "002_slow.sql").write_text("SET LOCAL statement_timeout = 50; SELECT pg_sleep(5);")
    with pytest.raises(postgres.MigrationFailed, match="002_slow"):
        await postgres.migrate(postgres_dsn, service_name, migrations, KEY)


MORE = "CREATE TABLE notes_more (id int);"
DIES_AT_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON notes_more DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();
INSERT INTO notes_more VALUES (1);
"""


@pytest.mark.parametrize("text", [MORE + "SELECT pg_terminate_backend(pg_backend_pid());", MORE + DIES_AT_COMMIT])
async def test_a_server_that_goes_away_amid_a_migration_is_not_taken_for_a_migration_that_is_wrong(
    postgres_dsn: str, service_name: str, migrations: Path, text: str
) -> None:
    """The next try finds out what is there."""
    app = await postgres.migrate(postgres_dsn, service_name, migrations, KEY)
    async with postgres.opened(app, ids.Ids(clock.SystemClock()), prepared=False) as database:
        (migrations / "002_more.sql").write_text(text)
        assert not await database.prepare(lambda: postgres.migrate(postgres_dsn, service_name, migrations, KEY))
        (migrations / "002_more.sql").write_text(MORE)
        assert await database.prepare(lambda: postgres.migrate(postgres_dsn, service_name, migrations, KEY))
        async with database.platform_tx() as tx:
            assert await tx.fetch("SELECT * FROM notes_more") == []
