"""Who asks, for whom, until when: what travels with every call and event.

A context is made once, at an edge that has verified a credential, and goes on unchanged in gRPC metadata and Kafka headers.
Nothing below an edge may take a tenant from anywhere else.
"""

import re
from dataclasses import dataclass, field, replace
from enum import IntEnum

from groundswell.kernel import errors


class Criticality(IntEnum):
    """How much a call matters, 0 the most; it travels with the call for whoever has too much and must refuse some. Nobody does yet."""

    CRITICAL = 0
    DEFAULT = 1
    SHEDDABLE = 2
    BULK = 3


POSITION = re.compile(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}")
"""A position of the database's write-ahead log, as PostgreSQL writes it."""


@dataclass(slots=True)
class Reached:
    """How far the database was when a call had done its work; filled on the way, empty while nobody told."""

    position: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """One caller's situation. `tenant` 0 means none: public calls, and the platform's own work."""

    tenant: int = 0
    actor: str = ""
    """`apiKeys/{id}`, `users/{id}`, `services/{name}`; empty means anonymous."""
    permissions: frozenset[str] = frozenset()
    deadline_s: float | None = None
    """On the monotonic clock of this process; None means no bound."""
    criticality: Criticality = Criticality.DEFAULT
    consistency: str = ""
    """Newest write-ahead-log position that the caller has seen; replicas behind it are not read."""
    reached: Reached | None = field(default=None, compare=False)
    """Where an edge wants to hear the position that its answer is to carry; stays in the process."""

    def allows(self, permission: str) -> bool:
        """Whether the caller holds `permission` itself, or a wildcard over it (`links.*`, `*`).

        `*` covers a tenant's own permissions only; those of the platform (`platform.…`) want `platform.*`.
        """
        held = self.permissions
        if permission in held:
            return True
        if "*" in held and not permission.startswith("platform."):
            return True
        parts = permission.split(".")
        return any(".".join(parts[:n]) + ".*" in held for n in range(1, len(parts)))

    def require_tenant(self) -> int:
        """The tenant; raises `Unauthenticated` when the call has none."""
        if not self.tenant:
            raise errors.Unauthenticated(
                "This call needs a credential. Send an API key as `Authorization: Bearer gsk_…`."
            )
        return self.tenant

    def in_tenant(self, tenant: int) -> "Context":
        """The same caller, working in `tenant`: for jobs and consumers that go through tenants one by one."""
        return replace(self, tenant=tenant)


def service(name: str, tenant: int = 0, deadline_s: float | None = None) -> Context:
    """The context of the platform's own work, such as a job or a consumer; with a deadline where somebody waits for it."""
    return Context(tenant=tenant, actor=f"services/{name}", deadline_s=deadline_s)
