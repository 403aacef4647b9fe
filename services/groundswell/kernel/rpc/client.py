"""Calling another module."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from groundswell.kernel import errors, telemetry
from groundswell.kernel.context import Context, Reached
from groundswell.kernel.rpc import status, wire

TIMEOUT_S = 5.0
AGAIN_S_MIN = 0.5
"""With less time left nothing is tried once more: the caller hears what went wrong, not that its time is over."""

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str | bytes], ...]

_OPTIONS = (
    # A name may stand for many processes: each gets its share, and after a lost connection the name is looked up again at once, since
    # a rollout replaces the others within seconds (gRPC's own pause of 30 s would outlast it).
    # And their health is watched, so that one that is about to leave is called no more (`leaving`).
    (
        "grpc.service_config",
        '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}',
    ),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A killed neighbour is back within a second: look often, or its callers wait for gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


class Signer:
    """Holds the internal key of this process, with which outgoing contexts are signed. Set once, when the process starts."""

    key: bytes = b""


def channel(endpoint: str) -> grpc.aio.Channel:
    """A channel to the processes behind `host:port`, or behind several `ip:port` separated by spaces."""
    addresses = endpoint.split()
    target = endpoint if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


def outgoing(context: Context) -> Metadata:
    """The metadata that carries `context` and the current trace."""
    pairs: list[tuple[str, str | bytes]] = [(wire.CONTEXT, wire.encode(context, Signer.key))]
    if traceparent := telemetry.traceparent():
        pairs.append((telemetry.TRACEPARENT, traceparent))
    return tuple(pairs)


async def call(
    method: Callable[..., Awaitable[Answer]],
    request: Any,
    context: Context,
    *,
    timeout_s: float = TIMEOUT_S,
    idempotent: bool = False,
) -> Answer:
    """Calls `method` (a stub's) for `context`; raises errors of `kernel.errors`, never gRPC's.

    The time is the smaller of `timeout_s` and what the context has left. A call that found no server, or an `idempotent` one whose
    server was away, is tried once more where there is time for it.
    """
    until = time.monotonic() + timeout_s
    if context.deadline_s is not None:
        until = min(until, context.deadline_s)
    for is_last in (False, True):
        left = until - time.monotonic()
        if left <= 0:
            raise errors.DeadlineExceeded("The time for this call is over.")
        try:
            calling = method(request, timeout=left, metadata=outgoing(context))
            answer = await calling
            if context.reached is not None:
                await _note_position(calling, context.reached)
            return answer
        except grpc.aio.AioRpcError as failure:
            error = status.error_from(failure)
            is_late = until - time.monotonic() < AGAIN_S_MIN
            if is_last or is_late or not isinstance(error, errors.Unavailable if idempotent else errors.Unsent):
                raise error from failure
        await asyncio.sleep(random.uniform(0.02, 0.1))
    raise AssertionError("unreachable: the last round returns or raises")


async def _note_position(calling: Any, reached: Reached) -> None:
    """Keeps the position that the server told behind its answer, if it told one."""
    for name, value in await calling.trailing_metadata() or ():
        if name == wire.POSITION:
            reached.position = value
