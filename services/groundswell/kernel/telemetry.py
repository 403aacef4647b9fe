"""Seeing a process: traces that cross gRPC and Kafka, Prometheus metrics, and JSON logs that carry the trace's id.

Spans leave by OTLP over HTTP when an endpoint is configured; without one they are not recorded, but ids travel all the same, so
that the logs of one request can be found in every process.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from groundswell.kernel import settings

TRACEPARENT = "traceparent"

_propagator = TraceContextTextMapPropagator()
_ids = RandomIdGenerator()


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
    if not (extra or config.otlp_endpoint):
        trace.set_tracer_provider(_UnrecordedProvider())
        return
    sampler = ParentBased(TraceIdRatioBased(1.0 if extra else config.sample_ratio))
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
    return _tracer_of(trace.get_tracer_provider())


@lru_cache(maxsize=2)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer("groundswell")


class _Unrecorded(trace.Tracer):
    """Gives spans their ids and nothing else: what the SDK does for a span that it never records takes ten times as long."""

    def start_span(
        self, name: str, context: otel_context.Context | None = None, *args: Any, **kwargs: Any
    ) -> trace.Span:
        above = trace.get_current_span(context).get_span_context()
        trace_id = above.trace_id if above.is_valid else _ids.generate_trace_id()
        return trace.NonRecordingSpan(trace.SpanContext(trace_id, _ids.generate_span_id(), is_remote=False))

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # the type that it should return is private to OpenTelemetry
        self, name: str, context: otel_context.Context | None = None, *args: Any, **kwargs: Any
    ) -> Iterator[trace.Span]:
        span = self.start_span(name, context)
        before = otel_context.attach(trace.set_span_in_context(span, context))
        try:
            yield span
        finally:
            otel_context.detach(before)


class _UnrecordedProvider(trace.TracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return _Unrecorded()


def traceparent() -> str:
    """The W3C `traceparent` of the current span; empty when there is none."""
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else ""


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


class Seldom:
    """Warns of what may happen to every request, once in five seconds: a full disk is not to be filled by its own log."""

    def __init__(self, logger: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._now_s = logger, now_s
        self._count, self._said_s = 0, float("-inf")

    def warning(self, sentence: str, *values: object) -> None:
        """`sentence` takes `values`, and before them how often this was called since it was last said."""
        self._count += 1
        now_s = self._now_s()
        if now_s - self._said_s >= REPEAT_S:
            self._logger.warning(sentence, self._count, *values)
            self._count, self._said_s = 0, now_s


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
