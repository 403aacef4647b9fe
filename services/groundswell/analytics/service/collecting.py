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
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey

PARKED_KIND = "parked"

ACCEPTED = Counter("groundswell_intake_accepted_total", "Events taken.")
PARKED = Counter("groundswell_intake_parked_total", "Events set aside.")


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


class Collector:
    """Takes batches. Exactly once for a request id: its digest travels with the rows, and readers of the log drop a second one."""

    def __init__(self, producer: frames.FrameProducer, clock: Clock, key: bytes, acknowledge_s: float) -> None:
        self._producer = producer
        self._clock = clock
        self._key = key
        self._acknowledge_s = acknowledge_s

    async def collect(
        self, context: Context, events: Sequence[Event], sent_ms: int | None, request: RequestKey
    ) -> Taken:
        """Returns when the log has acknowledged the whole batch.

        Raises `BatchSizeInvalid`, `IntakeFull`, and `OutcomeUnknown` when the acknowledgement did not come in time: the same
        batch under the same request id may be sent again.
        """
        if not 1 <= len(events) <= intake.BATCH_EVENTS_MAX:
            raise errors.BatchSizeInvalid(intake.BATCH_EVENTS_MAX)
        tenant, now_ms = context.require_tenant(), self._clock.now_ms()
        rows, parked = [], []
        for index, event in enumerate(events):
            row = self._row(tenant, event, sent_ms, now_ms)
            if isinstance(row, str):
                parked.append(Parked(index, row))
                row = _parked_row(tenant, index, row, event, now_ms)
            rows.append(row)
        await self._send(rows, self._digest(tenant, events, request))
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
        landing = intake.landing(event.time_ms, sent_ms, now_ms)
        if landing is None:
            return "time lies more than 30 days back"
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

    def _digest(self, tenant: int, events: Sequence[Event], request: RequestKey) -> bytes:
        """The name of a batch: the same for the same request sent again, another for everything else."""
        if not request.id:
            return secrets.token_bytes(16)
        body = orjson.dumps([tenant, request.id, events])
        return hmac.digest(self._key, body, hashlib.sha256)[:16]


def _parked_row(tenant: int, index: int, reason: str, event: Event, now_ms: int) -> frames.Row:
    """The trace of an event that was set aside: the books count it, no query does."""
    props = orjson.dumps({"reason": reason, "kind": event.kind[:64], "item": event.item[:64]}).decode()
    return frames.Row(now_ms, PARKED_KIND, tenant, 0, index, flags=frames.PARKED, props=props)
