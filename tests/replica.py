"""A streaming replica of a test session's PostgreSQL, and how to hold it back."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from groundswell.engines import postgres
from groundswell.engines.engine import Folders


class Replica(postgres.Postgres):
    """Begins as a copy of `primary` and follows it from then on; run like the primary, under the primary's password."""

    name = "postgres-replica"
    variable = "POSTGRES_REPLICA_DSN"

    def __init__(self, folders: Folders, port: int, primary: str) -> None:
        super().__init__(folders, port)
        parts = urlsplit(primary)
        self._primary = primary
        self._own = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))

    @property
    def address(self) -> str:
        return self._own

    def _initialise(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if user := postgres._system_user():
            shutil.chown(folder, user)
        copying = [str(postgres._binaries() / "pg_basebackup"), "-d", self._primary, "-D", str(folder)]
        command = postgres._unprivileged([*copying, "--write-recovery-conf", "--checkpoint=fast"])
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


@asynccontextmanager
async def paused(dsn: str) -> AsyncIterator[None]:
    """The replica at `dsn` goes on receiving, and replays nothing of it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_wal_replay_pause()")
        async with asyncio.timeout(10):
            while await connection.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await asyncio.sleep(0.01)
        yield
    finally:
        await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close()
