"""LiveService: what the live counters of this process hold, four times a second."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from groundswell.analytics.model.people import Count, Second
from groundswell.analytics.model.window import Look
from groundswell.analytics.service.live import LiveCounters
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2, live_pb2_grpc
from groundswell.kernel import rpc

Key = TypeVar("Key", int, str)
Told = TypeVar("Told")

TICK_S = 0.25
DEVICES = {0: "unknown", 1: "desktop", 2: "mobile", 3: "tablet", 4: "tv", 5: "bot"}


class LiveRpc(live_pb2_grpc.LiveServiceServicer):
    """LiveService."""

    def __init__(self, counters: LiveCounters, window_s: int) -> None:
        self._counters = counters
        self._window_s = window_s

    async def WatchLive(self, request: live_pb2.WatchLiveRequest, call: rpc.Call) -> AsyncIterator[pb.LiveMetrics]:
        tenant = call.context.require_tenant()
        while True:
            message = self._to_proto(tenant, self._counters.look(tenant, request.kind))
            if request.with_users:
                message.settled.CopyFrom(self._settled(tenant, self._counters.second(tenant, request.kind)))
            yield message
            await asyncio.sleep(TICK_S)

    def _to_proto(self, tenant: int, look: Look) -> pb.LiveMetrics:
        message = pb.LiveMetrics(
            events_per_second=look.events_per_second,
            events=look.events,
            users=look.users,
            top_items=[
                pb.TopItem(item=self._counters.name_of(tenant, item), kind=kind, events=events)
                for kind, item, events in look.top_items
            ],
            freshness_ms=self._counters.freshness_ms,
            window_events=look.window_events,
            window_bots=look.window_bots,
            window_seconds=self._window_s,
            countries=_named(look.countries, {}),
            devices=_named(look.devices, DEVICES),
        )
        message.time.FromMilliseconds(look.time_ms)
        if self._counters.complete_ms is not None and look.complete:
            message.complete_time.FromMilliseconds(self._counters.complete_ms)
        return message

    def _settled(self, tenant: int, second: Second) -> pb.SettledSecond:
        message = pb.SettledSecond(
            total=_count(second.total),
            kinds=_counts(second.kinds),
            countries=_named(_counts(second.countries), {}),
            devices=_named(_counts(second.devices), DEVICES),
            items=[
                pb.TopItem(item=self._counters.name_of(tenant, item), kind=kind, events=count.events, users=count.users)
                for (kind, item), count in second.items.items()
            ],
        )
        message.time.FromSeconds(second.second)
        return message


def _count(count: Count) -> pb.SecondCount:
    return pb.SecondCount(events=count.events, users=count.users)


def _counts(counts: Mapping[Key, Count]) -> dict[Key, pb.SecondCount]:
    return {key: _count(count) for key, count in counts.items()}


def _named(counts: Mapping[int, Told], names: Mapping[int, str]) -> dict[str, Told]:
    return {names.get(value) or _country(value): count for value, count in counts.items()}


def _country(packed: int) -> str:
    """Two letters from their packed form; `unknown` for 0."""
    return packed.to_bytes(2, "big").decode("ascii", "replace") if packed else "unknown"
