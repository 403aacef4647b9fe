"""The collector as its module wires it: batches over gRPC, told apart by their request ids."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from groundswell.analytics.module.collector import analytics
from groundswell.api.analytics.v1 import analytics_pb2 as pb
from groundswell.api.analytics.v1 import analytics_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import errors, rpc
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.resources import Resources

CALLER = Context(7, "apiKeys/1", frozenset({"*"}))
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def stub(
    kafka_address: str, postgres_dsn: str, frames_topic: str, tmp_path: Path
) -> AsyncIterator[analytics_pb2_grpc.AnalyticsServiceStub]:
    address = f"127.0.0.1:{ports.draw(1)[0]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_address,
        "POSTGRES_DSN": postgres_dsn,
        "FRAMES_TOPIC": frames_topic,
        "GROUNDSWELL_DATA": str(tmp_path),
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
        "GROUNDSWELL_ENDPOINTS": ",".join(f"{module}={NOWHERE}" for module in ("writer", "live", "identity")),
    }
    async with (
        Resources.open(environment) as resources,
        analytics(resources) as module,
        rpc.serve(module.servicers, address, resources.internal_key, resources.verifier()),
        rpc.channel(address) as channel,
    ):
        yield analytics_pb2_grpc.AnalyticsServiceStub(channel)


@pytest.mark.promise("ANALYTICS-6", "GATEWAY-11")
async def test_a_used_request_id_gives_the_same_answer_to_the_same_batch_and_refuses_another(
    stub: analytics_pb2_grpc.AnalyticsServiceStub,
) -> None:
    """One of the events is set aside, and is so again."""
    events = [pb.Event(kind=kind, item="1", user_id="u") for kind in ("view", "View!", "view")]
    request = pb.CollectEventsRequest(events=events, request_id=secrets.token_hex(8))
    answers = [await rpc.call(stub.CollectEvents, request, CALLER) for _ in range(3)]
    assert [(answer.accepted, answer.parked[0].index) for answer in answers] == [(2, 1)] * 3
    request.events[0].item = "2"
    with pytest.raises(errors.Unprocessable) as refused:
        await rpc.call(stub.CollectEvents, request, CALLER)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_what_grpc_carries_and_json_could_not_say_is_the_callers_mistake(
    stub: analytics_pb2_grpc.AnalyticsServiceStub,
) -> None:
    good, late, odd = (pb.Event(kind="view", item="1", user_id="u") for _ in range(3))
    late.time.seconds = 1 << 62
    odd.properties.fields["a"].number_value = float("nan")
    for bad, field in (late, "events[1].time"), (odd, "events[1].properties"):
        with pytest.raises(errors.Invalid) as refused:
            await rpc.call(stub.CollectEvents, pb.CollectEventsRequest(events=[good, bad]), CALLER)
        assert [violation.field for violation in refused.value.fields] == [field]


@pytest.mark.promise("ANALYTICS-10")
async def test_milliseconds_microseconds_and_nanoseconds_where_seconds_belong_are_taken(
    stub: analytics_pb2_grpc.AnalyticsServiceStub,
) -> None:
    """Only gRPC can carry them, since they are beyond the years that JSON can say."""
    request = pb.CollectEventsRequest()
    for factor in (10**3, 10**6, 10**9):
        event = request.events.add(kind="view", item="1", user_id="u")
        event.time.seconds = (SystemClock().now_ms() // 1_000 - 60) * factor
    request.sent_at.seconds = SystemClock().now_ms()
    answer = await rpc.call(stub.CollectEvents, request, CALLER)
    assert (answer.accepted, list(answer.parked)) == (3, [])
