"""All queries of tenancy."""

from asyncpg import Record, UniqueViolationError

from groundswell.kernel import postgres
from groundswell.tenancy import errors
from groundswell.tenancy.model import Tenant

_COLUMNS = "id, slug, display_name, suspended, created_ms, revision"


class TenantStore:
    """Tenants, in one transaction."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def add(self, tenant: Tenant) -> None:
        """Inserts; raises `SlugTaken`."""
        try:
            await self._tx.execute(
                f"INSERT INTO tenants ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)",
                tenant.id, tenant.slug, tenant.display_name, tenant.suspended, tenant.created_ms, tenant.revision,
            )  # fmt: skip
        except UniqueViolationError as error:
            raise errors.SlugTaken(tenant.slug) from error

    async def add_if_absent(self, tenant: Tenant) -> bool:
        """Inserts unless there is a tenant with this id; whether it did. Of concurrent calls one does."""
        await self._tx.execute("SELECT pg_advisory_xact_lock($1)", tenant.id)
        if await self._tx.fetchval("SELECT true FROM tenants WHERE id = $1", tenant.id):
            return False
        await self.add(tenant)
        return True

    async def get(self, tenant: int) -> Tenant:
        """Raises `TenantNotFound`."""
        row = await self._tx.fetchrow(f"SELECT {_COLUMNS} FROM tenants WHERE id = $1", tenant)
        return _tenant(row)

    async def page(self, after: int, size: int) -> list[Tenant]:
        """Up to `size` tenants with ids above `after`, oldest first."""
        rows = await self._tx.fetch(f"SELECT {_COLUMNS} FROM tenants WHERE id > $1 ORDER BY id LIMIT $2", after, size)
        return [_tenant(row) for row in rows]

    async def set_suspended(self, tenant: int, suspended: bool) -> Tenant:
        """Raises `TenantNotFound`."""
        row = await self._tx.fetchrow(
            f"UPDATE tenants SET suspended = $2, revision = revision + 1 WHERE id = $1 RETURNING {_COLUMNS}",
            tenant,
            suspended,
        )
        return _tenant(row)


def _tenant(row: Record | None) -> Tenant:
    if row is None:
        raise errors.TenantNotFound
    return Tenant(*row.values())
