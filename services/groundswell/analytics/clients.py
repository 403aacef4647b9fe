"""What the collector's module asks of the writer's and of the stream processor's."""

from collections.abc import AsyncIterator

import grpc

from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2, live_pb2_grpc
from groundswell.kernel import rpc
from groundswell.kernel.context import Context

QUERY_S_MAX = 10.0
"""The store refuses a question before this is over, or its caller's own time: `service.answering.LEAVE_S`."""
BALANCE_S_MAX = 3.0


class Store:
    """The store of events, wherever it is."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = live_pb2_grpc.StoreServiceStub(channel)

    async def query(self, context: Context, query: pb.RunQueryRequest) -> pb.RunQueryResponse:
        """Raises `QueryInvalid`, `QueryTooExpensive`, `Unavailable`."""
        request = live_pb2.QueryStoreRequest(query=query)
        return (await rpc.call(self._stub.QueryStore, request, context, timeout_s=QUERY_S_MAX, idempotent=True)).answer

    async def balance(self, context: Context, *, rollups: bool = True) -> pb.Balance:
        """The tenant's books, with the rollups or without."""
        request = live_pb2.ReadBalanceRequest(without_rollups=not rollups)
        return (
            await rpc.call(self._stub.ReadBalance, request, context, timeout_s=BALANCE_S_MAX, idempotent=True)
        ).balance


class Live:
    """The live counters."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = live_pb2_grpc.LiveServiceStub(channel)

    async def watch(self, context: Context, kind: str, *, with_users: bool = False) -> AsyncIterator[pb.LiveMetrics]:
        """Four looks a second until the caller stops; raises `Unavailable` when the counters are away."""
        try:
            async for look in self._stub.WatchLive(
                live_pb2.WatchLiveRequest(kind=kind, with_users=with_users), metadata=rpc.outgoing(context)
            ):
                yield look
        except grpc.aio.AioRpcError as failure:
            raise rpc.error_from(failure) from failure
