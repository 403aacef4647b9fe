"""The directory of tenants in every process, kept from `tenancy.events.v1`.

It answers from memory, so that no request waits for tenancy; while tenancy is down the last state holds. A tenant that the
directory has not heard of yet is let through: its credential was verified, and the news of it is at most seconds away.
"""

import asyncio
from dataclasses import dataclass

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.api.tenancy.v1 import tenancy_pb2 as pb
from groundswell.kernel import bus, errors
from groundswell.kernel.context import Context

TOPIC = "tenancy.events.v1"


class DirectoryUnread(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "Which tenants are suspended is not known here yet: the event log is away. Try again in a second."
        )


class TenantSuspended(errors.Denied):
    def __init__(self) -> None:
        super().__init__("This tenant is suspended. Ask the platform's operators to resume it.")


@dataclass(frozen=True, slots=True)
class Entry:
    """What every process knows of a tenant."""

    id: int
    slug: str
    suspended: bool
    revision: int


class Directory:
    """Tenants by id; a lower revision never replaces a higher one, so redelivery is harmless."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self.suspended: set[int] = set()
        """Tenants that are suspended now; for readers only."""
        self._news = asyncio.Event()

    def find(self, tenant: int) -> Entry | None:
        """The tenant, or None when it is not known here (yet)."""
        return self._entries.get(tenant)

    async def awaited(self, tenant: int, within_s: float) -> Entry | None:
        """The tenant as soon as it is known here; None when that takes longer. For what a new tenant may ask at once."""
        try:
            async with asyncio.timeout(within_s):
                while tenant not in self._entries:
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._entries[tenant]

    def refuse_suspended(self, context: Context) -> None:
        """Raises `TenantSuspended` when the caller's tenant is suspended."""
        if context.tenant in self.suspended:
            raise TenantSuspended

    def hear(self, event: bus.Incoming) -> None:
        """Takes an event of tenancy in."""
        if event.is_a(events_pb.TenantCreated):
            self._take(event.parse(events_pb.TenantCreated).tenant)
        elif event.is_a(events_pb.TenantSuspended):
            self._take(event.parse(events_pb.TenantSuspended).tenant)
        elif event.is_a(events_pb.TenantResumed):
            self._take(event.parse(events_pb.TenantResumed).tenant)

    def _take(self, tenant: pb.Tenant) -> None:
        id_ = int(tenant.name.partition("/")[2])
        known = self._entries.get(id_)
        if known is None or known.revision < tenant.revision:
            entry = Entry(id_, tenant.slug, tenant.state == pb.Tenant.SUSPENDED, tenant.revision)
            self._entries[id_] = entry
            (self.suspended.add if entry.suspended else self.suspended.discard)(id_)
            self._news.set()
            self._news = asyncio.Event()
