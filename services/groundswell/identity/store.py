"""All queries of identity."""

from asyncpg import Record

from groundswell.identity.model import ApiKey, KeyAct, Kind
from groundswell.kernel import postgres

_KEYS = """
    SELECT k.id, k.tenant_id, k.display_name, k.scopes, k.created_ms, k.expires_ms, coalesce(a.actor, '') AS maker FROM api_keys k
    LEFT JOIN key_acts a ON a.tenant_id = k.tenant_id AND a.key_id = k.id AND a.kind = 'created'
    WHERE k.tenant_id = $1 AND k.revoked_ms IS NULL"""
"""Live keys with their makers."""


class KeyStore:
    """API keys of the transaction's tenant."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def put(self, key: ApiKey, secret_hash: bytes) -> bool:
        """Inserts the key and its way to the tenant, or changes its secret and scopes when it is there; whether it is new."""
        inserted = await self._tx.execute(
            "INSERT INTO key_tenants (id, tenant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", key.id, key.tenant
        )
        await self._tx.execute(
            "INSERT INTO api_keys (tenant_id, id, secret_hash, display_name, scopes, created_ms, expires_ms) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (tenant_id, id) DO UPDATE SET secret_hash = $3, scopes = $5",
            key.tenant, key.id, secret_hash, key.display_name, list(key.scopes), key.created_ms, key.expires_ms,
        )  # fmt: skip
        return inserted == 1

    async def with_secret(self, key: int, secret_hash: bytes) -> ApiKey | None:
        """The live key with this secret, expired ones included; compared by hash, so in a time that tells nothing."""
        row = await self._tx.fetchrow(
            f"{_KEYS} AND k.id = $2 AND k.secret_hash = $3", self._tx.tenant, key, secret_hash
        )
        return None if row is None else _key(row)

    async def page(self, before: int, size: int) -> list[ApiKey]:
        """Up to `size` live keys with ids below `before`, newest first."""
        rows = await self._tx.fetch(f"{_KEYS} AND k.id < $2 ORDER BY k.id DESC LIMIT $3", self._tx.tenant, before, size)
        return [_key(row) for row in rows]

    async def revoke(self, key: int, now_ms: int) -> bool:
        """Whether there was a live key to revoke."""
        touched = await self._tx.execute(
            "UPDATE api_keys SET revoked_ms = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_ms IS NULL",
            self._tx.tenant,
            key,
            now_ms,
        )
        return touched == 1

    async def note(self, act: KeyAct) -> None:
        """Records what was done, for good: the database refuses to change or remove it."""
        await self._tx.execute(
            "INSERT INTO key_acts (tenant_id, id, key_id, kind, actor, acted_ms) VALUES ($1, $2, $3, $4, $5, $6)",
            act.tenant,
            act.id,
            act.key,
            act.kind,
            act.actor,
            act.acted_ms,
        )

    async def acts(self, before: int, size: int) -> list[KeyAct]:
        """Up to `size` acts with ids below `before`, newest first."""
        rows = await self._tx.fetch(
            "SELECT id, tenant_id, key_id, kind, actor, acted_ms FROM key_acts "
            "WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            self._tx.tenant,
            before,
            size,
        )
        return [
            KeyAct(row["id"], row["tenant_id"], row["key_id"], Kind(row["kind"]), row["actor"], row["acted_ms"])
            for row in rows
        ]


async def tenant_of(tx: postgres.Tx, key: int) -> int | None:
    """The tenant that a key belongs to; asked before any tenant is known."""
    found: int | None = await tx.fetchval("SELECT tenant_id FROM key_tenants WHERE id = $1", key)
    return found


def _key(row: Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["tenant_id"],
        row["display_name"],
        tuple(row["scopes"]),
        row["created_ms"],
        row["expires_ms"],
        row["maker"],
    )
