"""The hosts that a tenant denies."""

from collections.abc import Collection

from asyncpg import Record

from groundswell.kernel import postgres
from groundswell.links.model.denials import DeniedHost

_COLUMNS = "id, tenant_id, host, created_ms"
# One look at the key for each host: a subquery, because a planner that knows little of the table would read a tenant's whole list instead.
_AMONG = """
    SELECT host FROM unnest($2::text[]) AS asked(host)
    WHERE (SELECT true FROM denied_hosts d WHERE d.tenant_id = $1 AND d.host = asked.host)
"""


class DenialStore:
    """The list of the transaction's tenant."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def counted(self) -> int:
        """How many entries there are; true until the transaction ends if the tenant is held (`DomainStore.hold`)."""
        return int(await self._tx.fetchval("SELECT count(*) FROM denied_hosts WHERE tenant_id = $1", self._tx.tenant))

    async def add(self, entry: DeniedHost) -> bool:
        """Inserts; False when the list has such an entry."""
        added = await self._tx.execute(
            f"INSERT INTO denied_hosts ({_COLUMNS}) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, host) DO NOTHING",
            entry.id, entry.tenant, entry.host, entry.created_ms,
        )  # fmt: skip
        return added == 1

    async def page(self, before: int, size: int) -> list[DeniedHost]:
        """Up to `size` entries with ids below `before`, newest first."""
        rows = await self._tx.fetch(
            f"SELECT {_COLUMNS} FROM denied_hosts WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            self._tx.tenant, before, size,
        )  # fmt: skip
        return [_entry(row) for row in rows]

    async def delete(self, entry: int) -> bool:
        """Deletes; False when there is no such entry."""
        gone = await self._tx.execute(
            "DELETE FROM denied_hosts WHERE tenant_id = $1 AND id = $2", self._tx.tenant, entry
        )
        return gone == 1

    async def among(self, hosts: Collection[str]) -> set[str]:
        """Those of `hosts` that are entries."""
        rows = await self._tx.fetch(_AMONG, self._tx.tenant, list(hosts))
        return {row["host"] for row in rows}


def _entry(row: Record) -> DeniedHost:
    return DeniedHost(row["id"], row["tenant_id"], row["host"], row["created_ms"])
