"""The use cases of tenancy."""

from groundswell.kernel import postgres
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context, service
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids
from groundswell.tenancy import errors, events, model
from groundswell.tenancy.model import Tenant
from groundswell.tenancy.store import TenantStore

READ_ALL = "platform.tenants.read"


class Tenants:
    """Creates, reads, suspends and resumes tenants. Each change is one transaction and leaves as an event with it."""

    def __init__(self, database: postgres.Database, ids: Ids, clock: Clock) -> None:
        self._database = database
        self._ids = ids
        self._clock = clock

    async def create(self, context: Context, slug: str, display_name: str, request: RequestKey) -> Tenant:
        """Raises `SlugInvalid`, `SlugReserved`, `SlugTaken`."""
        name = model.checked_display_name(display_name)
        tenant = Tenant(self._ids.next(), model.checked_slug(slug), name or slug, False, self._clock.now_ms(), 1)
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, Tenant):
                return answered
            await TenantStore(tx).add(tenant)
            await tx.publish(events.created(tenant))
            return await tx.answer(request, tenant)

    async def get(self, context: Context, tenant: int) -> Tenant:
        """Any tenant for staff, the own one for everybody else; raises `TenantNotFound`."""
        if tenant != context.tenant and not context.allows(READ_ALL):
            raise errors.TenantNotFound
        async with self._database.platform_tx(context.deadline_s) as tx:
            return await TenantStore(tx).get(tenant)

    async def page(self, context: Context, after: int, size: int) -> list[Tenant]:
        """Up to `size` tenants with ids above `after`."""
        async with self._database.platform_tx(context.deadline_s) as tx:
            return await TenantStore(tx).page(after, size)

    async def suspend(self, context: Context, tenant: int, request: RequestKey) -> Tenant:
        """Refuses all calls of the tenant's credentials, everywhere within 2 s. Suspending twice is no error."""
        if tenant == model.PLATFORM:
            raise errors.PlatformStays
        return await self._set_suspended(context, tenant, True, request)

    async def resume(self, context: Context, tenant: int, request: RequestKey) -> Tenant:
        """Takes a suspension back."""
        return await self._set_suspended(context, tenant, False, request)

    async def found(self, first_slug: str) -> None:
        """Makes the two tenants that every installation has; does nothing when they exist."""
        now_ms = self._clock.now_ms()
        for tenant in (
            Tenant(model.PLATFORM, "platform", "The platform's staff", False, now_ms, 1),
            Tenant(model.FIRST, model.checked_slug(first_slug), first_slug, False, now_ms, 1),
        ):
            async with self._database.tenant_tx(service("tenancy", model.PLATFORM)) as tx:
                if await TenantStore(tx).add_if_absent(tenant):
                    await tx.publish(events.created(tenant))

    async def _set_suspended(self, context: Context, tenant: int, suspended: bool, request: RequestKey) -> Tenant:
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, Tenant):
                return answered
            changed = await TenantStore(tx).set_suspended(tenant, suspended)
            await tx.publish(events.suspended(changed) if suspended else events.resumed(changed))
            return await tx.answer(request, changed)
