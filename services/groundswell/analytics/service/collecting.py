"""Intake: batches of events become rows of frames, answered after the log has them."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from prometheus_client import Counter

from groundswell.analytics import errors
from groundswell.analytics.model import intake
from groundswell.analytics.model.intake import Event
from groundswell.kernel import postgres
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey

PARKED_KIND = "parked"

ACCEPTED = Counter("groundswell_intake_accepted_total", "Events taken.")
PARKED = Counter("groundswell_intake_parked_total", "Events set aside.")
REPAIRED = Counter("groundswell_intake_times_repaired_total", "Events whose time came in a wrong unit.")


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that was set aside: its place in the batch and the reason."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch."""

    accepted: int
    parked: list[Parked]


@dataclass(frozen=True, slots=True)
class FirstTry:
    """What is kept of a request with an id: when it came first. A later try makes the very rows that the first one made."""

    time_ms: int


class Collector:
    """Takes batches. Exactly once for a request id, whichever process takes a try of it.

    What was asked under an id is kept before anything is sent, so that another batch under it is refused. The same batch again makes
    the same rows under the same digest, which travels with them, and readers of the log drop what they have. A batch without an id
    asks no database.
    """

    def __init__(
        self,
        producer: frames.FrameProducer,
        database: postgres.Database,
        clock: Clock,
        key: bytes,
        acknowledge_s: float,
    ) -> None:
        self._producer = producer
        self._database = database
        self._clock = clock
        self._key = key
        self._acknowledge_s = acknowledge_s

    async def collect(
        self, context: Context, events: Sequence[Event], sent_ms: int | None, request: RequestKey
    ) -> Taken:
        """Returns when the log has acknowledged the whole batch.

        Raises `BatchSizeInvalid`, `IntakeFull`, `RequestIdReused`, `RequestStillRuns`, `Unavailable` when a request id cannot be
        looked up, and `OutcomeUnknown` when the acknowledgement did not come in time: the same batch under the same request id may
        be sent again.
        """
        if not 1 <= len(events) <= intake.BATCH_EVENTS_MAX:
            raise errors.BatchSizeInvalid(intake.BATCH_EVENTS_MAX)
        tenant, now_ms = context.require_tenant(), await self._first_try_ms(context, request)
        sent_ms = intake.in_milliseconds(sent_ms, now_ms)
        rows, parked = [], []
        for index, event in enumerate(events):
            row = self._row(tenant, event, sent_ms, now_ms)
            if isinstance(row, str):
                parked.append(Parked(index, row))
                row = _parked_row(tenant, index, row, event, now_ms)
            rows.append(row)
        await self._send(rows, self._digest(tenant, now_ms, request))
        ACCEPTED.inc(len(rows) - len(parked))
        PARKED.inc(len(parked))
        return Taken(len(rows) - len(parked), parked)

    async def _send(self, rows: Sequence[frames.Row], digest: bytes) -> None:
        try:
            positions = self._producer.append_batch(rows, digest)
        except frames.JournalFull as error:
            raise errors.IntakeFull from error
        acknowledged = await asyncio.gather(
            *(self._producer.acknowledged(each, self._acknowledge_s) for each in positions)
        )
        if not all(acknowledged):
            raise errors.OutcomeUnknown

    def _row(self, tenant: int, event: Event, sent_ms: int | None, now_ms: int) -> frames.Row | str:
        """The event as a row, or why it is set aside."""
        if reason := intake.fault(event):
            return reason
        time_ms = intake.in_milliseconds(event.time_ms, now_ms)
        landing = intake.landing(time_ms, sent_ms, now_ms)
        if landing is None:
            return "time lies more than 30 days back"
        REPAIRED.inc(time_ms != event.time_ms)
        item, name = frames.item_id(event.item)
        user = self._user(tenant, event)
        return frames.Row(
            landing.time_ms,
            event.kind,
            tenant,
            item,
            user,
            flags=landing.flags,
            value=event.value,
            props=event.properties,
            name=name,
        )

    def _user(self, tenant: int, event: Event) -> int:
        """A user's number: keyed, so that it cannot be turned back, and apart for tenants and for known and unknown users."""
        who = f"{tenant}\0u\0{event.user_id}" if event.user_id else f"{tenant}\0a\0{event.anonymous_id}"
        return int.from_bytes(hashlib.blake2b(who.encode(), digest_size=8, key=self._key).digest(), "little")

    async def _first_try_ms(self, context: Context, request: RequestKey) -> int:
        """When this request came first: now, unless its id says otherwise."""
        now_ms = self._clock.now_ms()
        if not request.id:
            return now_ms
        async with self._database.tenant_tx(context) as tx:
            if first := await tx.replayed(request, FirstTry):
                return first.time_ms
            await tx.answer(request, FirstTry(now_ms))
        return now_ms

    def _digest(self, tenant: int, first_ms: int, request: RequestKey) -> bytes:
        """The name of a batch: the same for the same request sent again, another one once its id is forgotten and used anew."""
        if not request.id:
            return secrets.token_bytes(16)
        return hmac.digest(self._key, f"{tenant}\0{first_ms}\0{request.id}".encode(), hashlib.sha256)[:16]


def _parked_row(tenant: int, index: int, reason: str, event: Event, now_ms: int) -> frames.Row:
    """The trace of an event that was set aside: the books count it, no query does."""
    props = orjson.dumps({"reason": reason, "kind": event.kind[:64], "item": event.item[:64]}).decode()
    return frames.Row(now_ms, PARKED_KIND, tenant, 0, index, flags=frames.PARKED, props=props)
