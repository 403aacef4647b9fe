"""The use cases of identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from groundswell.identity import errors, events, model
from groundswell.identity.model import ApiKey, KeyAct, Kind
from groundswell.identity.store import KeyStore, tenant_of
from groundswell.kernel import access, postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context, service
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids

CREATE_ANYWHERE = "platform.apiKeys.create"


class Tenants(Protocol):
    """The tenants of the installation, wherever they are kept."""

    async def require(self, context: Context, tenant: int) -> None:
        """Raises `TenantNotFound` when the caller may not see the tenant, or there is none."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The answer that is kept for a request that revoked a key."""

    key: int


class ApiKeys:
    """Creates, lists, revokes and checks API keys. A secret is known here only while it is made or checked."""

    def __init__(self, database: postgres.Database, tenants: Tenants, ids: Ids, clock: Clock) -> None:
        self._database = database
        self._tenants = tenants
        self._ids = ids
        self._clock = clock

    async def create(
        self, context: Context, tenant: int | None, display_name: str, scopes: Sequence[str], expires_ms: int | None
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, for the caller's own tenant or, by staff, for another, which sees who made it.

        Raises `TenantNotFound`, `ScopesInvalid`, `ScopeNotHeld`, `ExpiryPast`, `DisplayNameTooLong`.
        """
        owner = context.require_tenant() if tenant is None else tenant
        if owner != context.tenant:
            if not context.allows(CREATE_ANYWHERE):
                raise errors.TenantNotFound
            await self._tenants.require(context, owner)
        now_ms = self._clock.now_ms()
        key = ApiKey(
            self._ids.next(),
            owner,
            model.checked_display_name(display_name),
            model.checked_scopes(scopes, context, owner),
            now_ms,
            model.checked_expiry(expires_ms, now_ms),
            model.actor_of(context),
        )
        secret = model.new_secret(key.id)
        await self._put(context.in_tenant(owner), key, secret)
        return key, secret

    async def page(self, context: Context, before: int, size: int) -> list[ApiKey]:
        """Up to `size` of the tenant's keys with ids below `before`, newest first."""
        async with self._database.tenant_tx(context) as tx:
            return await KeyStore(tx).page(before, size)

    async def acts(self, context: Context, before: int, size: int) -> list[KeyAct]:
        """Up to `size` of what was done to the tenant's keys, with ids below `before`, newest first."""
        async with self._database.tenant_tx(context) as tx:
            return await KeyStore(tx).acts(before, size)

    async def revoke(self, context: Context, key: int, request: RequestKey) -> None:
        """Ends a key; the news leaves with the transaction. Raises `KeyNotFound`."""
        now_ms = self._clock.now_ms()
        async with self._database.tenant_tx(context) as tx:
            if await tx.replayed(request, Revoked):
                return
            if not await KeyStore(tx).revoke(key, now_ms):
                raise errors.KeyNotFound
            await KeyStore(tx).note(self._act(tx.tenant, key, Kind.REVOKED, model.actor_of(context), now_ms))
            await tx.publish(events.key_revoked(key, tx.tenant, now_ms))
            await tx.answer(request, Revoked(key))

    async def verify(self, secret: str, deadline_s: float | None = None) -> ApiKey:
        """The live key that holds `secret`; raises `access.InvalidCredential`, the same for every reason.

        Raises `Unavailable` before the caller's deadline when the database is silent.
        """
        parts = model.parts_of(secret)
        if parts is None:
            raise access.InvalidCredential
        async with self._database.platform_tx(deadline_s) as tx:
            tenant = await tenant_of(tx, parts[0])
        if tenant is None:
            raise access.InvalidCredential
        async with self._database.tenant_tx(service("identity", tenant, deadline_s)) as tx:
            key = await KeyStore(tx).with_secret(*parts)
        if key is None or (key.expires_ms is not None and key.expires_ms <= self._clock.now_ms()):
            raise access.InvalidCredential
        return key

    async def found(self, keys: Sequence[str]) -> None:
        """Makes the keys of the installation (`secret=tenant`); one that exists takes the given secret."""
        for entry in keys:
            secret, _, tenant_text = entry.partition("=")
            parts, tenant = model.parts_of(secret), int(tenant_text)
            if parts is None:
                raise ValueError("IDENTITY_BOOTSTRAP_KEYS: each entry is gsk_<id>_<secret>=<tenant>.")
            scopes = ("*", "platform.*") if tenant == model.PLATFORM_TENANT else ("*",)
            platform = service("identity", tenant)
            maker = model.actor_of(platform)
            key = ApiKey(parts[0], tenant, "first key", scopes, self._clock.now_ms(), None, maker)
            await self._put(platform, key, secret)

    async def _put(self, context: Context, key: ApiKey, secret: str) -> None:
        parts = model.parts_of(secret)
        assert parts is not None, "a secret made here is well formed"
        async with self._database.tenant_tx(context) as tx:
            if await KeyStore(tx).put(key, parts[1]):
                await KeyStore(tx).note(self._act(key.tenant, key.id, Kind.CREATED, key.maker, key.created_ms))

    def _act(self, tenant: int, key: int, kind: Kind, actor: str, now_ms: int) -> KeyAct:
        return KeyAct(self._ids.next(), tenant, key, kind, actor, now_ms)
