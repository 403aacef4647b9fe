"""Serving RPCs: access, context, deadline, trace and errors around every method, none of it in the services.

Each method of each servicer is wrapped once, when the server is made. A servicer's method takes (request, call) where `call` is a
`Call`; a streaming one is an async generator of answers. What it raises from `kernel.errors` becomes a rich status; anything else
is logged and becomes INTERNAL without detail.
"""

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from groundswell.kernel import access, errors, idempotency, telemetry
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.rpc import leaving, status, wire

log = logging.getLogger(__name__)

DEADLINE_DEFAULT_S = 30.0
GRACE_S = 10.0

_HANDLED = Counter("groundswell_rpc_handled_total", "RPCs answered, by method and gRPC code.", ["method", "code"])
_SECONDS = Histogram("groundswell_rpc_seconds", "Time in a unary method.", ["method"])

Refuse = Callable[[Context], None]
"""Raises when the context's tenant may not be served, such as a suspended one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as a servicer sees it: who asks and with which request id."""

    context: Context
    request: idempotency.RequestKey


@asynccontextmanager
async def serve(
    servicers: Sequence[object],
    address: str,
    internal_key: bytes,
    verifier: access.Verifier,
    refuse: Refuse = lambda _: None,
    *,
    connection_s_max: float = 0.0,
) -> AsyncIterator[grpc.aio.Server]:
    """Serves all of `servicers` at `host:port`, with health and reflection, until the block ends.

    A connection older than `connection_s_max` is ended when its calls are; 0 lets it live.
    Raises `access.UnmarkedMethod` when a method has no rule, `OSError` when the address is taken.
    """
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)]
    if connection_s_max:
        options.append(("grpc.max_connection_age_ms", int(connection_s_max * 1000)))
    server = grpc.aio.server(options=options)
    edge = _Edge(internal_key, verifier, refuse)
    names = []
    for servicer in servicers:
        for service in services_of(servicer):
            handlers = {method.name: edge.handler(method, getattr(servicer, method.name)) for method in service.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
            names.append(service.full_name)
    health = leaving.Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        (*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
    )
    if not server.add_insecure_port(address):
        raise OSError(f"The address {address} is taken. Stop what listens there, or choose another.")
    await server.start()
    for name in ("", *names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield server
    finally:
        edge.leave()
        await health.leave(edge.called_s)
        stopping = asyncio.ensure_future(server.stop(GRACE_S))
        health.end()
        await stopping


def services_of(servicer: object) -> list[ServiceDescriptor]:
    """The proto services that `servicer` implements, found by the generated classes it derives from."""
    found = []
    for base in type(servicer).__mro__:
        if base.__module__.endswith("_pb2_grpc") and base.__name__.endswith("Servicer"):
            messages = sys.modules[base.__module__.removesuffix("_grpc")]
            found.append(messages.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")])
    return found


class _Edge:
    def __init__(self, internal_key: bytes, verifier: access.Verifier, refuse: Refuse) -> None:
        self._key = internal_key
        self._verifier = verifier
        self._refuse = refuse
        self._called_s = 0.0
        self._leaves = False

    def called_s(self) -> float:
        """When the last call came (monotonic)."""
        return self._called_s

    def leave(self) -> None:
        """Ends the streams, which would not end by themselves, within half a second; calls go on."""
        self._leaves = True

    def handler(self, method: MethodDescriptor, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        request_class = message_factory.GetMessageClass(method.input_type)
        if method.client_streaming:
            raise TypeError(f"{method.full_name}: client streams are not served")
        parse = request_class.FromString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._streaming(method, behavior), parse, _serialized)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, behavior), parse, _serialized)

    def _unary(
        self, method: MethodDescriptor, behavior: Callable[[Any, Call], Awaitable[Message]]
    ) -> Callable[..., Awaitable[Message]]:
        rule, name = access.rule_of(method), method.full_name
        seconds, handled = _SECONDS.labels(name), _HANDLED.labels(name, "OK")

        async def answer(request: Message, grpc_context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
            started = time.perf_counter()
            with _span(name, grpc_context):
                try:
                    call = await self._call(rule, name, request, grpc_context)
                    made = await behavior(request, call)
                except Exception as error:  # the edge: every failure leaves as a status
                    await _abort(error, name, grpc_context)
                    raise
            if call.context.reached is not None and (position := call.context.reached.position):
                grpc_context.set_trailing_metadata(((wire.POSITION, position),))
            seconds.observe(time.perf_counter() - started)
            handled.inc()
            return made

        return answer

    def _streaming(
        self, method: MethodDescriptor, behavior: Callable[[Any, Call], AsyncGenerator[Message, None]]
    ) -> Callable[..., Any]:
        rule, name = access.rule_of(method), method.full_name
        if not inspect.isasyncgenfunction(behavior):
            raise TypeError(f"{name} must be an async generator")

        async def answer(
            request: Message, grpc_context: "grpc.aio.ServicerContext[Any, Any]"
        ) -> AsyncIterator[Message]:
            try:
                call = await self._call(rule, name, request, grpc_context)
                judge = partial(self._still, rule, grpc_context)
                async with aclosing(access.while_allowed(behavior(request, call), judge)) as allowed:
                    async for each in allowed:
                        yield each
            except Exception as error:  # the edge: every failure leaves as a status
                await _abort(error, name, grpc_context)

        return answer

    async def _call(
        self, rule: access.Rule, name: str, request: Message, grpc_context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> Call:
        self._called_s = time.monotonic()
        caller = await self._caller(rule, grpc_context)
        left = grpc_context.time_remaining()
        deadline_s = time.monotonic() + (DEADLINE_DEFAULT_S if left is None else left)
        here = replace(caller, deadline_s=deadline_s, reached=Reached())
        return Call(here, idempotency.key_of(name, request))

    async def _still(self, rule: access.Rule, grpc_context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        """Raises what ends a stream."""
        if self._leaves:
            raise errors.Stopping
        await self._caller(rule, grpc_context)

    async def _caller(self, rule: access.Rule, grpc_context: "grpc.aio.ServicerContext[Any, Any]") -> Context:
        """Who calls, if they may; raises what refuses them."""
        metadata = dict(grpc_context.invocation_metadata() or ())
        signed = metadata.get(wire.CONTEXT)
        if isinstance(signed, bytes):
            caller = wire.decode(signed, self._key)
        elif rule.audience is access.Audience.INTERNAL:
            raise errors.Denied("This method is for the platform's own processes.")
        elif authorization := str(metadata.get("authorization", "")):
            caller = await self._verifier.verify(authorization.removeprefix("Bearer "))
        else:
            caller = Context()
        access.require(rule, caller)
        if rule.audience is access.Audience.PERMISSION:
            self._refuse(caller)
        return caller


def _span(name: str, grpc_context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
    parent = next(
        (str(value) for key, value in grpc_context.invocation_metadata() or () if key == telemetry.TRACEPARENT), ""
    )
    context = telemetry.remote({telemetry.TRACEPARENT: parent}) if parent else None
    return telemetry.tracer().start_as_current_span(name, context=context, kind=trace.SpanKind.SERVER)


async def _abort(error: Exception, name: str, grpc_context: "grpc.aio.ServicerContext[Any, Any]") -> None:
    if not isinstance(error, errors.Error):
        log.error("%s failed", name, exc_info=error)
        error = errors.Error("The platform made a mistake. Its operators find it by the request id.")
    code = status.code_of(error)
    _HANDLED.labels(name, code.name).inc()
    trailing = ((status.DETAILS, status.status_of(error).SerializeToString()),)
    await grpc_context.abort(code, error.message, trailing_metadata=trailing)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
