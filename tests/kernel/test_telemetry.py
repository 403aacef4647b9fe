"""Traces across gRPC and Kafka, and logs that can be found by them."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.kernel import bus, postgres, rpc, telemetry
from groundswell.kernel.bus.producer import Producer
from groundswell.kernel.bus.relay import relay

from .publishing import ALICE, event, running, until
from .test_rpc import ALICE as CALLER
from .test_rpc import address, channel, stub

__all__ = ["address", "channel", "stub"]  # fixtures


class Collected(SpanExporter):
    """Every finished span."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def named(self, part: str) -> list[ReadableSpan]:
        return [span for span in self.spans if part in span.name]


@pytest.fixture(scope="module")
def collected() -> Collected:
    made = Collected()
    logging_before = logging.getLogger().handlers[:]
    telemetry.setup("tests", telemetry.TelemetrySettings(), extra=SimpleSpanProcessor(made))
    logging.getLogger().handlers[:] = logging_before
    return made


async def test_a_call_continues_the_callers_trace(
    collected: Collected, stub: identity_pb2_grpc.ApiKeyServiceStub
) -> None:
    with telemetry.tracer().start_as_current_span("caller") as caller:
        await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(), CALLER)
    served = collected.named("ApiKeyService.CreateApiKey")[-1]
    assert served.context.trace_id == caller.get_span_context().trace_id
    assert served.parent is not None
    assert served.parent.span_id == caller.get_span_context().span_id


async def test_a_consumer_links_to_the_span_that_made_the_event(
    collected: Collected, database: postgres.Database, producer: Producer, topic: str, kafka_address: str
) -> None:
    """The event was made in another process, perhaps long ago: a link, not a parent."""
    got: list[bus.Incoming] = []

    async def take(each: bus.Incoming) -> None:
        got.append(each)

    with telemetry.tracer().start_as_current_span("producer") as made:
        async with database.tenant_tx(ALICE) as tx:
            await tx.publish(event(topic, "1"))
    async with running(relay(database, producer), bus.consume(kafka_address, f"g-{topic}", [topic], take, producer)):
        await until(lambda: bool(got))
    consumed = collected.named(f"g-{topic}")[-1]
    assert [link.context.trace_id for link in consumed.links] == [made.get_span_context().trace_id]


async def test_a_log_line_carries_the_trace(collected: Collected) -> None:
    record = logging.LogRecord("groundswell.x", logging.WARNING, __file__, 1, "it %s", ("happened",), None)
    with telemetry.tracer().start_as_current_span("work") as span:
        line = json.loads(telemetry.JsonFormatter("gateway").format(record))
    assert (line["message"], line["level"], line["process"]) == ("it happened", "warning", "gateway")
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


UNRECORDED = """
import asyncio
from groundswell.kernel import telemetry

async def work():
    with telemetry.tracer().start_as_current_span("work"):
        await asyncio.sleep(0)
        return telemetry.traceparent()

telemetry.setup("alone", telemetry.TelemetrySettings())
print(asyncio.run(work()))
"""


def test_without_an_endpoint_the_ids_travel_all_the_same() -> None:
    """In a process of its own: the spans of this one are recorded."""
    told = subprocess.run([sys.executable, "-c", UNRECORDED], capture_output=True, text=True, check=True, timeout=60)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00\n", told.stdout), told.stdout


def test_a_library_that_repeats_itself_is_heard_once_in_five_seconds_and_we_always_are() -> None:
    """Goal: an outage of the broker does not fill the disk with one sentence."""
    once = telemetry.OncePerTime()

    def passes(name: str, at_s: float, *, message: str = "Unable connect to %s") -> bool:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, ("127.0.0.1",), None)
        record.created = at_s
        return once.filter(record)

    assert [passes("aiokafka.client", at_s) for at_s in (10.0, 10.1, 14.9, 15.1)] == [True, False, False, True]
    assert passes("aiokafka.client", 15.2, message="something else")
    assert all(passes("groundswell.links", 20.0) for _ in range(3))


def test_what_may_happen_to_every_request_is_said_seldom_and_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    seldom = telemetry.Seldom(logging.getLogger("groundswell.test"), lambda: now_s)
    for _ in range(50):
        seldom.warning("refused %d times: %s", "full")
    now_s += telemetry.REPEAT_S
    seldom.warning("refused %d times: %s", "full")
    assert caplog.messages == ["refused 1 times: full", "refused 50 times: full"]
