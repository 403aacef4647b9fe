"""Seeing a process: traces that cross gRPC and Kafka, Prometheus metrics, and JSON logs that carry the trace's id.

Spans leave by OTLP over HTTP when an endpoint is configured; without one they are not recorded, but ids travel all the same, so
that the logs of one request can be found in every process.
"""

import logging
import sys
import traceback
from collections.abc import Mapping

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from groundswell.kernel import settings

TRACEPARENT = "traceparent"

_propagator = TraceContextTextMapPropagator()


@settings.section("TELEMETRY")
class TelemetrySettings:
    """What leaves a process for its operators."""

    otlp_endpoint: str = ""
    """URL of an OTLP/HTTP trace receiver (`http://collector:4318/v1/traces`); empty means spans are not recorded."""
    sample_ratio: float = 0.01
    """Share of new traces that are recorded, 0 to 1; a caller's decision wins."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""


def setup(process: str, config: TelemetrySettings, extra: SpanProcessor | None = None) -> None:
    """Prepares logs and traces of this process; call once. `extra` also receives every span (all are then recorded)."""
    _setup_logs(process, config.log_level)
    sampler = (
        ParentBased(TraceIdRatioBased(1.0 if extra else config.sample_ratio))
        if extra or config.otlp_endpoint
        else ALWAYS_OFF
    )
    provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": process}))
    if config.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,  # only when used: it imports slowly
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.otlp_endpoint)))
    if extra:
        provider.add_span_processor(extra)
    trace.set_tracer_provider(provider)


def tracer() -> trace.Tracer:
    """The tracer of the platform's own spans."""
    return trace.get_tracer("groundswell")


def traceparent() -> str:
    """The W3C `traceparent` of the current span; empty when there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(TRACEPARENT, "")


def remote(carrier: Mapping[str, str]) -> otel_context.Context:
    """The context whose parent is the span named in `carrier["traceparent"]`."""
    return _propagator.extract(dict(carrier))


def link_to(traceparent_: str) -> list[trace.Link]:
    """A link to the span that made an event, for the consumer's own span; empty when there was none."""
    span_context = trace.get_current_span(remote({TRACEPARENT: traceparent_})).get_span_context()
    return [trace.Link(span_context)] if span_context.is_valid else []


CHATTY = ("aiokafka", "faust", "mode", "httpx", "asyncio")
REPEAT_S = 5.0
SENTENCES_MAX = 1_000


class OncePerTime(logging.Filter):
    """Lets a library say the same thing once in five seconds: a client that looks for its broker says it hundreds of times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in CHATTY:
            return True
        sentence = record.name, record.msg
        if record.created - self._said.get(sentence, float("-inf")) < REPEAT_S:
            return False
        if len(self._said) >= SENTENCES_MAX:
            self._said.clear()
        self._said[sentence] = record.created
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the id of the trace that it belongs to."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = f"{span.trace_id:032x}"
        if record.exc_info:
            entry["error"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return orjson.dumps(entry).decode()


def _setup_logs(process: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    handler.addFilter(OncePerTime())
    # These say at INFO what our own logs say better.
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
