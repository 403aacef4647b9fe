"""PostgreSQL: one database a service, one transaction a use case, one tenant a transaction.

`tenant_tx` is the only way to a tenant's tables; lists go through `Reads`, which asks replicas where there are any. Events leave
through the transaction (`publish`), an effect that may not be repeated is applied once (`first_time`), and a request's answer is kept
with its effect (`replayed`, `answer`).
"""

from groundswell.kernel.postgres.database import GONE, Database, left_s, opened
from groundswell.kernel.postgres.migrations import MigrationFailed, app_dsn, migrate, proxy_user
from groundswell.kernel.postgres.replicas import Reads, reading
from groundswell.kernel.postgres.transaction import Tx

__all__ = [
    "GONE",
    "Database",
    "MigrationFailed",
    "Reads",
    "Tx",
    "app_dsn",
    "left_s",
    "migrate",
    "opened",
    "proxy_user",
    "reading",
]
