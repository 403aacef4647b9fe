"""One transaction: queries, the outbox, the inbox and the answers that go with it."""

from collections.abc import Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec
import orjson

from groundswell.kernel.bus.events import Incoming, Outgoing, headers_of
from groundswell.kernel.idempotency import KEPT_HOURS, RequestIdReused, RequestKey, RequestStillRuns
from groundswell.kernel.ids import Ids

M = TypeVar("M")

SWEPT_MAX = 20
"""Answers of the tenant that are past their time and go with each new one: so the table holds about what one day brings."""
_ANSWER = f"""
WITH past AS (
    SELECT request_id FROM answers
    WHERE tenant_id = $1 AND request_id <> $2 AND answered <= now() - interval '{KEPT_HOURS} hours'
    LIMIT {SWEPT_MAX} FOR UPDATE SKIP LOCKED
), swept AS (DELETE FROM answers WHERE tenant_id = $1 AND request_id IN (SELECT request_id FROM past))
INSERT INTO answers (tenant_id, request_id, digest, answer) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, request_id) DO UPDATE SET digest = $3, answer = $4, answered = now()"""


class Tx:
    """A running transaction; made by `Database` only. `published` and `answered` say whether events and an answer to keep go with it."""

    def __init__(self, connection: asyncpg.Connection, tenant: int, ids: Ids) -> None:
        self._connection = connection
        self._ids = ids
        self.tenant = tenant
        self.published = self.answered = False

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *values)
        return rows

    async def fetchrow(self, query: str, *values: Any) -> asyncpg.Record | None:
        return await self._connection.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        return await self._connection.fetchval(query, *values)

    async def execute(self, query: str, *values: Any) -> int:
        """Runs a statement; returns the number of rows it touched (0 where it has none)."""
        tag: str = await self._connection.execute(query, *values)
        last = tag.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def executemany(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.executemany(query, rows)

    async def publish(self, *events: Outgoing) -> None:
        """Puts events into the outbox: they leave when this transaction commits, or not at all."""
        if not events:
            return
        rows = [
            (
                e.topic,
                e.key.encode(),
                orjson.dumps(headers_of(e, self._ids.next(), self.tenant)).decode(),
                e.message.SerializeToString(),
                e.urgent,
            )
            for e in events
        ]
        await self._connection.execute(
            "INSERT INTO outbox (topic, key, headers, body, urgent) "
            "SELECT * FROM unnest($1::text[], $2::bytea[], $3::jsonb[], $4::bytea[], $5::boolean[])",
            *(list(column) for column in zip(*rows, strict=True)),
        )
        self.published = True

    async def first_time(self, event: Incoming, consumer: str) -> bool:
        """Whether `event` is new to `consumer`; it is not any more once this transaction commits."""
        inserted = await self.execute(
            "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", consumer, event.id
        )
        return inserted == 1

    async def replayed(self, key: RequestKey, kind: type[M]) -> M | None:
        """The answer that a request with this id got before; None when it is the first.

        `kind` is the model that was given to `answer`. Raises `RequestIdReused` when the parameters differ, `RequestStillRuns`
        while the first has not committed.
        """
        if not key.id:
            return None
        if not await self.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))", key.id, self.tenant):
            raise RequestStillRuns
        row = await self.fetchrow(
            "SELECT digest, answer FROM answers WHERE request_id = $1 AND tenant_id = $2 "
            f"AND answered > now() - interval '{KEPT_HOURS} hours'",
            key.id,
            self.tenant,
        )
        if row is None:
            return None
        if row["digest"] != key.digest:
            raise RequestIdReused
        return msgspec.json.decode(row["answer"], type=kind)

    async def answer(self, key: RequestKey, model: M) -> M:
        """Keeps `model` as the answer to the request, with its effect; returns it."""
        if key.id:
            await self.execute(_ANSWER, self.tenant, key.id, key.digest, msgspec.json.encode(model))
            self.answered = True
        return model
