"""Domains, the hosts that lead to them, and the sequence numbers of their codes."""

from collections.abc import Collection

from asyncpg import Record

from groundswell.kernel import postgres
from groundswell.links.model.links import Domain

_COLUMNS = "id, tenant_id, host, is_default, created_ms"


class DomainStore:
    """The domains of the transaction's tenant."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def claim_host(self, host: str, domain: int) -> bool:
        """Leads `host` to `domain`; whether it does now. Of concurrent claims one wins, and a second claim of the same changes nothing."""
        await self._tx.execute(
            "INSERT INTO domain_hosts (host, tenant_id, domain_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            host,
            self._tx.tenant,
            domain,
        )
        return bool(
            await self._tx.fetchval(
                "SELECT (tenant_id, domain_id) = ($2, $3) FROM domain_hosts WHERE host = $1",
                host,
                self._tx.tenant,
                domain,
            )
        )

    async def add(self, domain: Domain) -> None:
        """Inserts; a second default domain of the tenant is left out, after its first has committed."""
        await self._tx.execute(
            f"INSERT INTO domains ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id) WHERE is_default DO NOTHING",
            domain.id, domain.tenant, domain.host, domain.is_default, domain.created_ms,
        )  # fmt: skip

    async def default(self) -> Domain | None:
        """The tenant's own domain, once it is made."""
        row = await self._tx.fetchrow(
            f"SELECT {_COLUMNS} FROM domains WHERE tenant_id = $1 AND is_default", self._tx.tenant
        )
        return None if row is None else _domain(row)

    async def get(self, domain: int, *, lock: bool = False) -> Domain | None:
        """With `lock`, others who lock it wait until this transaction ends."""
        row = await self._tx.fetchrow(
            f"SELECT {_COLUMNS} FROM domains WHERE tenant_id = $1 AND id = $2 {'FOR UPDATE' if lock else ''}",
            self._tx.tenant,
            domain,
        )
        return None if row is None else _domain(row)

    async def hold(self) -> None:
        """Others who hold the tenant, whose own domain is made, wait until this transaction ends: so what is counted after it stays so."""
        await self._tx.execute("SELECT FROM domains WHERE tenant_id = $1 AND is_default FOR UPDATE", self._tx.tenant)

    async def counted(self) -> int:
        """How many there are; true until the transaction ends if the tenant is held."""
        return int(await self._tx.fetchval("SELECT count(*) FROM domains WHERE tenant_id = $1", self._tx.tenant))

    async def all(self) -> list[Domain]:
        """The default one first, then in order of age."""
        rows = await self._tx.fetch(
            f"SELECT {_COLUMNS} FROM domains WHERE tenant_id = $1 ORDER BY is_default DESC, id", self._tx.tenant
        )
        return [_domain(row) for row in rows]

    async def schemes(self, domains: Collection[int]) -> dict[int, tuple[str, ...]]:
        """The schemes beside http and https of those of `domains` that have any, in order; one query."""
        rows = await self._tx.fetch(
            "SELECT domain_id, array_agg(scheme ORDER BY scheme) AS schemes FROM domain_schemes "
            "WHERE tenant_id = $1 AND domain_id = ANY($2::bigint[]) GROUP BY domain_id",
            self._tx.tenant,
            list(domains),
        )
        return {row["domain_id"]: tuple(row["schemes"]) for row in rows}

    async def set_schemes(self, domain: int, schemes: Collection[str]) -> None:
        """Gives the domain these schemes and no others; whoever changes them has locked it."""
        await self._tx.execute(
            "DELETE FROM domain_schemes WHERE tenant_id = $1 AND domain_id = $2 AND scheme <> ALL($3::text[])",
            self._tx.tenant,
            domain,
            list(schemes),
        )
        await self._tx.execute(
            "INSERT INTO domain_schemes (tenant_id, domain_id, scheme) SELECT $1, $2, unnest($3::text[]) ON CONFLICT DO NOTHING",
            self._tx.tenant,
            domain,
            list(schemes),
        )

    async def hosts_among(self, hosts: Collection[str]) -> set[str]:
        """Those of `hosts` that lead to the tenant's domains."""
        rows = await self._tx.fetch(
            "SELECT host FROM domain_hosts WHERE host = ANY($1::text[]) AND tenant_id = $2",
            list(hosts),
            self._tx.tenant,
        )
        return {row["host"] for row in rows}

    async def lease(self, domain: int, length: int, numbers: int) -> int:
        """Leases `numbers` sequence numbers, none of which was leased before; returns the first."""
        first: int = await self._tx.fetchval(
            "INSERT INTO code_blocks (tenant_id, domain_id, length, next) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (tenant_id, domain_id, length) DO UPDATE SET next = code_blocks.next + $4 RETURNING next - $4",
            self._tx.tenant,
            domain,
            length,
            numbers,
        )
        return first


async def place_of(tx: postgres.Tx, host: str) -> tuple[int, int] | None:
    """The tenant and domain that `host` leads to; asked before any tenant is known."""
    row = await tx.fetchrow("SELECT tenant_id, domain_id FROM domain_hosts WHERE host = $1", host)
    return None if row is None else (row["tenant_id"], row["domain_id"])


def _domain(row: Record) -> Domain:
    return Domain(row["id"], row["tenant_id"], row["host"], row["is_default"], row["created_ms"])
