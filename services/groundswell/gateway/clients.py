"""The services behind the door, called by descriptor: no stub, so a new method needs no code here."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from groundswell.kernel import errors, rpc
from groundswell.kernel.context import Context

HEALTH_S_MAX = 1.0
HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Health:
    """How a module answered a health check; `serving` is None when it did not answer."""

    module: str
    serving: bool | None
    latency_ms: int


class Upstreams:
    """Calls methods of modules over their channels."""

    def __init__(self, channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._channel = channel
        self._callables: dict[MethodDescriptor, Any] = {}

    async def call(
        self,
        module: str,
        method: MethodDescriptor,
        answer: type[Message],
        request: Message,
        context: Context,
        *,
        timeout_s: float,
        idempotent: bool,
    ) -> Message:
        """One unary call; raises errors of `kernel.errors`."""
        made: Message = await rpc.call(
            self._callable(module, method, answer), request, context, timeout_s=timeout_s, idempotent=idempotent
        )
        return made

    async def stream(
        self, module: str, method: MethodDescriptor, answer: type[Message], request: Message, context: Context
    ) -> AsyncGenerator[Message, None]:
        """The answers of one server stream; raises errors of `kernel.errors`. Closing the iterator cancels the call."""
        call = self._callable(module, method, answer)(request, metadata=rpc.outgoing(context))
        try:
            async for each in call:
                yield each
        except grpc.aio.AioRpcError as failure:
            raise rpc.error_from(failure) from failure
        finally:
            call.cancel()

    async def health(self, module: str) -> Health:
        """Asks the process that serves `module` whether it serves."""
        check = self._channel(module).unary_unary(
            HEALTH, health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        )
        started_s = time.monotonic()
        try:
            status = (await check(health_pb2.HealthCheckRequest(), timeout=HEALTH_S_MAX)).status
            serving: bool | None = status == health_pb2.HealthCheckResponse.SERVING
        except grpc.aio.AioRpcError:
            serving = None
        return Health(module, serving, round((time.monotonic() - started_s) * 1000))

    async def healths(self, modules: list[str]) -> list[Health]:
        """The health of all of `modules`, asked at once."""
        return await asyncio.gather(*(self.health(module) for module in modules))

    def _callable(self, module: str, method: MethodDescriptor, answer: type[Message]) -> Any:
        found = self._callables.get(method)
        if found is None:
            try:
                channel = self._channel(module)
            except KeyError as error:
                raise errors.Unavailable(f"The service {module} is not part of this installation.") from error
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            path = f"/{method.containing_service.full_name}/{method.name}"
            found = make(path, request_serializer=_serialized, response_deserializer=answer.FromString)
            self._callables[method] = found
        return found


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
