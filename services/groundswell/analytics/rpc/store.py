"""StoreService: the store's answers for the other modules."""

import time

from groundswell.analytics.model import questions
from groundswell.analytics.model.questions import Filter, Question
from groundswell.analytics.service.answering import Answering
from groundswell.analytics.store import schema
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import live_pb2, live_pb2_grpc
from groundswell.kernel import rpc


class StoreRpc(live_pb2_grpc.StoreServiceServicer):
    """StoreService."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def QueryStore(self, request: live_pb2.QueryStoreRequest, call: rpc.Call) -> live_pb2.QueryStoreResponse:
        question = _question(request.query)
        found = await self._answering.ask(call.context, question)
        answer = pb.RunQueryResponse(
            level=found.level,
            estimated="users" in question.measures and not question.wants_exact_users,
            as_of=found.as_of,
            rows_read=found.rows_read,
        )
        for time_ms, values, name, measures in found.rows:
            row = answer.rows.add(
                dimensions={
                    each: questions.label(each, value, name)
                    for each, value in zip(question.dimensions, values, strict=True)
                },
                measures=dict(zip(question.measures, measures, strict=True)),
            )
            if question.interval:
                row.time.FromMilliseconds(time_ms)
        return live_pb2.QueryStoreResponse(answer=answer)

    async def ReadBalance(self, request: live_pb2.ReadBalanceRequest, call: rpc.Call) -> live_pb2.ReadBalanceResponse:
        books = await self._answering.books(call.context, rolled=not request.without_rollups)
        balance = pb.Balance(
            accepted=books.accepted,
            stored=books.stored,
            parked=books.parked,
            difference=books.accepted - books.stored - books.parked,
            duplicates=books.duplicates,
        )
        for table, events in books.rollups.items():
            setattr(balance, _FIELDS[table], events)
        balance.time.FromMilliseconds(time.time_ns() // 1_000_000)
        return live_pb2.ReadBalanceResponse(balance=balance)


_FIELDS = {
    schema.EV_1S: "rollup_second",
    schema.EV_1M: "rollup_minute",
    schema.EV_1H: "rollup_hour",
    schema.EV_1H_DEVICES: "rollup_device_hour",
    schema.ITEM_1M: "rollup_item_minute",
    schema.ITEM_1H: "rollup_item_hour",
    schema.ITEM_TOTALS: "totals",
}
"""What the public API calls each rollup."""


def _question(query: pb.RunQueryRequest) -> Question:
    filters = [
        Filter(each.dimension, tuple(questions.code(each.dimension, value) for value in each.values), each.exclude)
        for each in query.filters
    ]
    return Question(
        tuple(query.measures),
        tuple(query.dimensions),
        tuple(filters),
        query.interval,
        rpc.moment_ms(query.range, "start", "query.range.") or 0,
        rpc.moment_ms(query.range, "end", "query.range.") or 0,
        query.order,
        query.limit or questions.LIMIT_DEFAULT,
    )
