"""AnalyticsService: intake, questions and the live stream, as the public API has them."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from groundswell.analytics.clients import Live, Store
from groundswell.analytics.model import intake
from groundswell.analytics.model.intake import Event
from groundswell.analytics.rpc.closed import ClosedAnswers
from groundswell.analytics.service.collecting import Collector
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import analytics_pb2_grpc
from groundswell.kernel import errors, pagination, rpc
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context

TOP_RANGE_MS = 24 * 3_600_000
BALANCE_S = 1.0
BALANCE_S_MAX = 5.0
"""A balance older than this says nothing of now: a page must not show a 0 that nobody has measured."""


class _Books:
    """The newest balance of a watched tenant."""

    def __init__(self) -> None:
        self._balance, self._read_s, self._read_ms = pb.Balance(), float("-inf"), 0

    def put(self, balance: pb.Balance, now_ms: int) -> None:
        self._balance, self._read_s, self._read_ms = balance, time.monotonic(), now_ms

    def tell(self, look: pb.LiveMetrics) -> None:
        """Adds the figures while they are known."""
        if time.monotonic() - self._read_s <= BALANCE_S_MAX:
            look.difference, look.stored = self._balance.difference, self._balance.stored
            look.balance_time.FromMilliseconds(self._read_ms)


class AnalyticsRpc(analytics_pb2_grpc.AnalyticsServiceServicer):
    """AnalyticsService."""

    def __init__(
        self,
        collector: Collector,
        store: Store,
        live: Live,
        clock: Clock,
        tops: ClosedAnswers[pb.ListTopItemsResponse],
    ) -> None:
        self._collector = collector
        self._store = store
        self._live = live
        self._clock = clock
        self._tops = tops

    async def CollectEvents(self, request: pb.CollectEventsRequest, call: rpc.Call) -> pb.CollectEventsResponse:
        now_ms = self._clock.now_ms()
        events = [_event(index, event, now_ms) for index, event in enumerate(request.events)]
        sent_ms = _moment_ms(request, "sent_at", "", now_ms)
        taken = await self._collector.collect(call.context, events, sent_ms, call.request)
        parked = [pb.ParkedEvent(index=each.index, reason=each.reason) for each in taken.parked]
        return pb.CollectEventsResponse(accepted=taken.accepted, parked=parked)

    async def RunQuery(self, request: pb.RunQueryRequest, call: rpc.Call) -> pb.RunQueryResponse:
        return await self._store.query(call.context, request)

    async def GetBalance(self, request: pb.GetBalanceRequest, call: rpc.Call) -> pb.Balance:
        return await self._store.balance(call.context)

    async def ListTopItems(self, request: pb.ListTopItemsRequest, call: rpc.Call) -> pb.ListTopItemsResponse:
        query = self._top_query(request)
        tenant, question = call.context.require_tenant(), query.SerializeToString(deterministic=True)
        if known := self._tops.get(tenant, question):
            return known
        found = await self._store.query(call.context, query)
        answer = _top_items(found, request.kind)
        await self._tops.offer(tenant, question, answer, query.range.end.ToMilliseconds(), found.as_of)
        return answer

    async def WatchMetrics(self, request: pb.WatchMetricsRequest, call: rpc.Call) -> AsyncIterator[pb.LiveMetrics]:
        books = _Books()
        watching = asyncio.create_task(self._keep(books, call.context))
        try:
            async for look in self._live.watch(call.context, request.kind, with_users=request.with_users):
                books.tell(look)
                yield look
        finally:
            watching.cancel()

    async def _keep(self, books: _Books, context: Context) -> None:
        """Brings `books` up to date once a second, for as long as the stream lives: each reading has a bound of its own."""
        context = replace(context, deadline_s=None)
        while True:
            try:
                books.put(await self._store.balance(context, rollups=False), self._clock.now_ms())
            except errors.Error:  # whatever keeps the store from telling, the page goes on without its books
                await asyncio.sleep(BALANCE_S)
            await asyncio.sleep(BALANCE_S)

    def _top_query(self, request: pb.ListTopItemsRequest) -> pb.RunQueryRequest:
        order = request.order_by or "events"
        if order not in ("events", "users"):
            raise errors.Invalid("order_by must be `events` or `users`.", field="order_by")
        end_ms, start_ms = rpc.moment_ms(request, "end_time"), rpc.moment_ms(request, "start_time")
        end_ms = self._clock.now_ms() + 1 if end_ms is None else end_ms
        start_ms = end_ms - TOP_RANGE_MS if start_ms is None else start_ms
        query = pb.RunQueryRequest(
            measures=["events", "users"],
            dimensions=["item"] if request.kind else ["kind", "item"],
            filters=[pb.Filter(dimension="kind", values=[request.kind])] if request.kind else [],
            order=f"-{order}",
            limit=pagination.size(request.page_size),
        )
        query.range.start.FromMilliseconds(max(start_ms, 0))
        query.range.end.FromMilliseconds(max(end_ms, 0))
        return query


def _event(index: int, event: pb.Event, now_ms: int) -> Event:
    """Raises `Invalid` for what JSON could not say: a time beyond its years, a property that is no finite number."""
    path = f"events[{index}]."
    try:
        properties = orjson.dumps(json_format.MessageToDict(event.properties)) if event.HasField("properties") else b""
    except ValueError as error:
        raise errors.Invalid(f"{path}properties must be JSON.", field=f"{path}properties") from error
    time_ms = _moment_ms(event, "time", path, now_ms)
    return Event(event.kind, event.item, event.user_id, event.anonymous_id, time_ms, event.value, properties.decode())


def _moment_ms(message: Message, name: str, path: str, now_ms: int) -> int | None:
    """A time as it came, also one beyond JSON's years that intake can repair: its unit is a wrong one."""
    given: Timestamp = getattr(message, name)
    given_ms = given.seconds * 1_000 + given.nanos // 1_000_000
    if message.HasField(name) and intake.in_milliseconds(given_ms, now_ms) != given_ms:
        return given_ms
    return rpc.moment_ms(message, name, path)


def _top_items(answer: pb.RunQueryResponse, kind: str) -> pb.ListTopItemsResponse:
    items = [
        pb.TopItem(
            item=row.dimensions["item"],
            kind=kind or row.dimensions["kind"],
            events=int(row.measures["events"]),
            users=int(row.measures["users"]),
        )
        for row in answer.rows
    ]
    return pb.ListTopItemsResponse(items=items, estimated=answer.estimated)
