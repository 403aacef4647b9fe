"""A process that relays or consumes until a failpoint kills it.

A consumer keeps one note for each event, with the inbox in the same transaction, and says of each delivery what it is, before its effect.
"""

import asyncio
import sys
from collections.abc import Callable

from groundswell.api.tenancy.v1 import tenancy_events_pb2 as events_pb
from groundswell.kernel import bus, clock, ids, postgres
from groundswell.kernel.bus.consumer import Handle
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay
from tests.kernel.publishing import ALICE

INBOX = "notes"


def taking(database: postgres.Database, tell: Callable[[str, int, str, str], None]) -> Handle:
    """Keeps a note the first time; `tell` hears key, number and id of each event that comes, and its place in the log."""

    async def take(event: bus.Incoming) -> None:
        message: events_pb.TenantCreated = event.parse(events_pb.TenantCreated)
        number = message.tenant.revision
        tell(event.key, number, event.id, f"{event.partition}:{event.offset}")
        async with database.tenant_tx(ALICE) as tx:
            if await tx.first_time(event, INBOX):
                await tx.execute("INSERT INTO notes VALUES (7, $1, $2)", number, event.key)

    return take


def say(*words: object) -> None:
    print(*words, flush=True)


async def run(role: str, dsn: str, bootstrap: str, topic: str, group: str) -> None:
    producer = Producer.of_events(bootstrap)
    async with postgres.opened(dsn, ids.Ids(clock.SystemClock())) as database:
        if role == "relay":
            await relay(database, producer)
        else:
            await bus.consume(bootstrap, group, [topic], taking(database, say), producer)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
