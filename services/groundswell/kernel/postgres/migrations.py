"""Migrations: plain SQL files `NNN_name.sql`, forward only, applied by the owner role under a lock.

A service has a database `gs_<service>`, an owner role that migrates it and an app role that its processes use; the app role owns
nothing and cannot pass over row-level security. A file that was applied must never change: its checksum is kept and compared.
"""

import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

log = logging.getLogger(__name__)

KERNEL_MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_S_MAX = 5.0
CLOSE_S_MAX = 5.0
STATEMENT_S_MAX = 15.0
"""How long a server may be silent before it is taken for away: whoever starts waits for it, in a process with everything the door too."""
FILE_S_MAX = 3_600.0
"""How long one file may take, which may build an index, and the copy that a new database is."""
LOCK_S_MAX = 10.0
"""How long another migration is waited for. The lock of one that has vanished lasts until the server notices, which may take hours."""
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What blames no statement and may pass: SQLSTATEs of the classes 08, 53 (disk, memory), 57 (shutdown, cancelled query), 58 (I/O), and what
the driver says of a connection that is closed, or that is used between a server's last words and its end (InternalClientError)."""
_OF_THE_FILE = (asyncpg.QueryCanceledError, asyncpg.ConfigurationLimitExceededError, asyncpg.UndefinedFileError)
"""What is of those classes and does not pass by itself: a time or a size that the server's settings allow nobody, a file that it lacks."""
_LOCK = 0x67726F756E64  # "ground": one migration at a time on a server
SERVER_VERSION_MIN = {18: 0, 17: 6, 16: 10, 15: 14}
"""Lowest fixed minor version a major (CVE-2025-8713: statistics showed rows that policies hide)."""


class MigrationFailed(Exception):
    """A database cannot be brought to this version; the message says which file and what to do."""


class MigrationWaits(Exception):
    """Another process migrates on this server, or has vanished while it did; it passes."""

    def __init__(self, lock_s_max: float) -> None:
        super().__init__(
            f"Another process has held the lock of migrations for {lock_s_max:.0f} s. It is tried again; if no process migrates, "
            "end the session that pg_locks shows for the advisory lock."
        )


def role_password(role: str, internal_key: bytes) -> str:
    """The password of a role of ours: derived, so that every process knows it and nothing stores it."""
    return hmac.digest(internal_key, f"postgres:{role}".encode(), hashlib.sha256).hex()


def dsn_of(admin_dsn: str, database: str, role: str = "", password: str = "") -> str:
    """`admin_dsn` with another database, and another user where given."""
    parts = urlsplit(admin_dsn)
    netloc = f"{role}:{password}@{parts.netloc.rpartition('@')[2]}" if role else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))


def app_dsn(admin_dsn: str, service: str, internal_key: bytes) -> str:
    """Where the processes of `service` find its database, in their own role."""
    app = f"gs_{service}_app"
    return dsn_of(admin_dsn, f"gs_{service}", app, role_password(app, internal_key))


def proxy_user(service: str, internal_key: bytes) -> str:
    """The app role of `service` as a line of PgBouncer's `auth_file`."""
    app = f"gs_{service}_app"
    return f'"{app}" "{role_password(app, internal_key)}"'


async def migrate(
    admin_dsn: str, service: str, folder: Path, internal_key: bytes, *, lock_s_max: float = LOCK_S_MAX
) -> str:
    """Creates what is missing of a service's database and applies its new migrations; returns the app role's DSN.

    `admin_dsn` may create databases and roles, and need not be a superuser. Safe to run from many processes at once. Raises
    `MigrationFailed`, `MigrationWaits` after `lock_s_max`, and what asyncpg raises when the server is away.
    """
    database, owner, app = f"gs_{service}", f"gs_{service}_owner", f"gs_{service}_app"
    admin = await _connected(dsn_of(admin_dsn, "postgres"))
    try:
        _require_version(admin.get_server_version())
        await _lock(admin, lock_s_max)
        for role in (owner, app):
            await _ensure_role(admin, role, role_password(role, internal_key))
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await _create(admin, database, owner)
        await _apply(admin_dsn, database, owner, app, folder, internal_key)
    finally:
        await admin.close(timeout=CLOSE_S_MAX)
    return app_dsn(admin_dsn, service, internal_key)


async def _connected(dsn: str) -> asyncpg.Connection:
    """A session whose statements end when the server is silent."""
    return await asyncpg.connect(dsn, timeout=CONNECT_S_MAX, command_timeout=STATEMENT_S_MAX)


@asynccontextmanager
async def _transaction(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction. A statement that is not answered in its time ends the session: a ROLLBACK would not be either, and be waited for as
    long."""
    async with connection.transaction():
        try:
            yield
        except TimeoutError:
            connection.terminate()
            raise


def _require_version(version: asyncpg.ServerVersion) -> None:
    least = SERVER_VERSION_MIN.get(version.major, 0 if version.major > max(SERVER_VERSION_MIN) else None)
    if least is None or version.minor < least:
        raise MigrationFailed(
            f"PostgreSQL {version.major}.{version.minor} can show rows that row-level security hides. "
            "Use 18.0, 17.6, 16.10, 15.14 or newer."
        )


async def _lock(admin: asyncpg.Connection, lock_s_max: float) -> None:
    """Takes the lock, which lasts as long as the session; the time is the transaction's."""
    try:
        async with _transaction(admin):
            await admin.execute(f"SET LOCAL lock_timeout = {int(lock_s_max * 1000)}")
            await admin.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=lock_s_max + STATEMENT_S_MAX)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationWaits(lock_s_max) from error


async def _ensure_role(admin: asyncpg.Connection, role: str, password: str) -> None:
    """A role with this password that may do nothing by itself. Who is no superuser may not even name what only superusers give."""
    may = await admin.fetchval(
        "SELECT rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = $1", role
    )
    verb, nothing = "CREATE" if may is None else "ALTER", "NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"
    await admin.execute(f"{verb} ROLE \"{role}\" LOGIN {'' if may is False else nothing} PASSWORD '{password}'")


async def _create(admin: asyncpg.Connection, database: str, owner: str) -> None:
    """A database of `owner`'s. Who is no superuser has to belong to the owner for that, which who made the role may arrange."""
    if not await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await admin.execute(f'GRANT "{owner}" TO CURRENT_USER')
    await admin.execute(f'CREATE DATABASE "{database}" OWNER "{owner}"', timeout=FILE_S_MAX)


async def _apply(admin_dsn: str, database: str, owner: str, app: str, folder: Path, internal_key: bytes) -> None:
    connection = await _connected(dsn_of(admin_dsn, database, owner, role_password(owner, internal_key)))
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, checksum text NOT NULL, applied timestamptz DEFAULT now())"
        )
        await connection.execute(
            f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{database}" TO "{app}"'
        )
        applied = {
            row["name"]: row["checksum"] for row in await connection.fetch("SELECT name, checksum FROM migrations")
        }
        for file in files_of(folder):
            await _apply_file(connection, file, applied.get(file.name))
        await connection.execute(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{app}"; REVOKE ALL ON migrations FROM "{app}";'
            f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{app}"'
        )
    finally:
        await connection.close(timeout=CLOSE_S_MAX)


def files_of(folder: Path) -> Sequence[Path]:
    """The migrations of a service in order, the kernel's first."""
    return [*sorted(KERNEL_MIGRATIONS.glob("*.sql")), *sorted(folder.glob("*.sql"))]


async def _apply_file(connection: asyncpg.Connection, file: Path, known_checksum: str | None) -> None:
    text = file.read_text()
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if known_checksum == checksum:
        return
    if known_checksum is not None:
        raise MigrationFailed(
            f"The migration {file.name} was applied with another text. Restore it, and put the change into a new file."
        )
    try:
        async with _transaction(connection):
            await connection.execute(text, timeout=FILE_S_MAX)
            await connection.execute("INSERT INTO migrations (name, checksum) VALUES ($1, $2)", file.name, checksum)
    except asyncpg.PostgresError as error:
        if isinstance(error, AWAY) and not isinstance(error, _OF_THE_FILE):
            # Whether it was committed before the server's last word is known by its checksum, next time.
            log.warning("the migration %s is tried again: %s", file.name, error)
            raise
        raise MigrationFailed(f"The migration {file.name} failed and was taken back: {error}") from error
