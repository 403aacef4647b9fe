"""PgBouncer before a test session's PostgreSQL, configured by what `docs/deploy.md` says, and by nothing else but places and sizes."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from groundswell.engines import postgres
from groundswell.engines.children import Launch
from groundswell.engines.engine import Folders, Say
from tests.skipped import NO_PGBOUNCER

PROGRAM = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer") or ""
PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
KEEPS_STATEMENTS = (1, 21)
"""From this version on it may carry named statements to whichever connection it lends: told not to, all are as the oldest one is."""


class Pooler:
    """A PgBouncer that shares one connection to `server` among all clients of a service, and lets `users` in.

    It refuses to run as root, like the server, and runs as that does. Whoever makes one skips where there is none.
    """

    name = "pgbouncer"
    variable = "POSTGRES_POOL_DSN"

    def __init__(self, folders: Folders, port: int, server: str, users: Sequence[str], **settings: str) -> None:
        if not PROGRAM:
            pytest.skip(NO_PGBOUNCER)
        self._folders, self._port, self._server, self._users = folders, port, urlsplit(server), users
        self._settings = {"default_pool_size": "1"} | settings

    @property
    def address(self) -> str:
        return f"postgresql://127.0.0.1:{self._port}/"

    def prepare(self, say: Say) -> None:
        self._folders.data.mkdir(parents=True, exist_ok=True)
        users = self._folders.data / "userlist.txt"
        users.write_text("\n".join(self._users) + "\n")
        config = ConfigParser()
        config.read_string(shown())
        config["databases"]["*"] = f"host={self._server.hostname} port={self._server.port}"
        if _version() >= KEEPS_STATEMENTS:
            config["pgbouncer"]["max_prepared_statements"] = "0"
        places = {"listen_addr": "127.0.0.1", "listen_port": str(self._port), "auth_file": str(users)}
        config["pgbouncer"].update(places | {"unix_socket_dir": ""} | self._settings)
        with (self._folders.data / "pgbouncer.ini").open("w") as file:
            config.write(file)

    def launch(self) -> Launch:
        return Launch(
            command=postgres._unprivileged([PROGRAM, str(self._folders.data / "pgbouncer.ini")]),
            log=self._folders.log,
            cwd=self._folders.data,
            stop_signal=signal.SIGTERM,  # at once: SIGINT would wait for clients
            grace_s=10,
        )

    async def healthy(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True


def _version() -> tuple[int, int]:
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = re.findall(r"\d+", told)[:2]
    return int(major), int(minor)


def shown() -> str:
    """The configuration that the page shows."""
    (block,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)
