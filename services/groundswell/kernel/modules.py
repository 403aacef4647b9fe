"""What a service gives to a process, and what a process gives to a service.

A module is one runnable part of a service: RPC servicers, long-running tasks and readiness checks. `Resources` is what it may
ask for; there is one per process, so that modules that share a process share its connections.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from groundswell.kernel import health, rpc, telemetry
from groundswell.kernel.resources import ProcessSettings, Resources

log = logging.getLogger(__name__)

DRAIN_S = 25.0

Task = Callable[[], Awaitable[None]]
Running = dict[asyncio.Future[None], str]
"""What goes on in a process, by what it is called."""


@dataclass(frozen=True, slots=True)
class Module:
    """One runnable part of a service.

    `tasks` run until the last call is answered; when one ends or raises, the process drains and exits 1, and its supervisor starts it
    again. `ready` holds cheap checks, by name, that must all be true before the process takes work. `drain` is awaited when the
    process is told to stop, before anything is taken down.
    """

    name: str
    servicers: Sequence[object] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict)
    ready: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    drain: Callable[[], Awaitable[None]] | None = None


Factory = Callable[[Resources], AbstractAsyncContextManager[Module]]


async def run(factories: Mapping[str, Factory], environment: Mapping[str, str]) -> int:
    """Runs the modules in this process until SIGTERM, SIGINT or the death of one part; returns the exit code.

    A start that is told to stop is given up where it is.
    """
    stopping, failed = asyncio.Event(), False
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    async with Resources.open(environment) as resources, AsyncExitStack() as stack:
        process = resources.settings(ProcessSettings)
        telemetry.setup(process.process or "+".join(factories), resources.settings(telemetry.TelemetrySettings))
        running: Running = {}
        begun: tuple[list[Module], health.Readiness] | None = None
        async with _given_up_at(stopping):
            begun = await stack.enter_async_context(started(factories, resources, process, running))
        if begun is not None:
            failed = await _until_stopped(*begun, running, resources.running, stopping)
    log.info("stopped")
    return 1 if failed else 0


@asynccontextmanager
async def started(
    factories: Mapping[str, Factory], resources: Resources, process: ProcessSettings, running: Running | None = None
) -> AsyncIterator[tuple[list[Module], health.Readiness]]:
    """The modules, served at the process's addresses while the block runs; their tasks are the caller's to run.

    Those in `running` are cancelled once the last call is answered: what it changed still leaves with the relay.
    """
    async with AsyncExitStack() as stack:
        readiness = health.Readiness()
        await stack.enter_async_context(health.serve(readiness, process.ops_address))
        modules = [await stack.enter_async_context(factory(resources)) for factory in factories.values()]
        stack.push_async_callback(_cancelled, {} if running is None else running)
        servicers = [servicer for module in modules for servicer in module.servicers]
        if servicers:
            refuse = resources.tenant_gate()
            await resources.suspensions_read()
            await stack.enter_async_context(
                rpc.serve(
                    servicers,
                    process.rpc_address,
                    resources.internal_key,
                    resources.verifier(),
                    refuse=refuse,
                    connection_s_max=process.connection_s_max,
                )
            )
        checks = {f"{module.name}.{name}": check for module in modules for name, check in module.ready.items()}
        _spare_collections()
        readiness.open(checks | resources.ready())
        yield modules, readiness


def _spare_collections() -> None:
    """Takes what the start made out of the garbage collector's sight: half a million objects that live as long as the process,
    whose walk would halt every request for a tenth of a second."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def _given_up_at(stopping: asyncio.Event) -> AsyncIterator[None]:
    """Ends the block, without an error, when the process is told to stop."""

    async def told() -> None:
        await stopping.wait()
        block.reschedule(asyncio.get_running_loop().time())

    block = asyncio.timeout(None)
    try:
        async with block:
            telling = asyncio.create_task(told())
            try:
                yield
            finally:
                telling.cancel()
    except TimeoutError:
        if not block.expired():
            raise
        log.info("told to stop, the start is given up")


async def _until_stopped(
    modules: Sequence[Module],
    readiness: health.Readiness,
    running: Running,
    background: Mapping[asyncio.Future[None], str],
    stopping: asyncio.Event,
) -> bool:
    """Begins all tasks, which `running` then holds, and drains when told to stop or when one of them dies; True when one died."""
    running |= background
    for module in modules:
        for name, task in module.tasks.items():
            running[asyncio.create_task(_named(task))] = f"{module.name}.{name}"
    stop = asyncio.create_task(_named(stopping.wait))
    done, _ = await asyncio.wait({stop, *running}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    dead = [ended for ended in done if ended is not stop]
    for ended in dead:
        why = None if ended.cancelled() else ended.exception()
        log.error("the task %s died, the process drains", running[ended], exc_info=why)
    if not dead:
        log.info("told to stop, draining")
    readiness.drain()
    await _drained(modules)
    return bool(dead)


async def _named(task: Callable[[], Awaitable[object]]) -> None:
    """A task of its own for anything that can be awaited."""
    await task()


async def _cancelled(tasks: Collection[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _drained(modules: Sequence[Module]) -> None:
    drains = [module.drain() for module in modules if module.drain]
    if drains:
        async with asyncio.timeout(DRAIN_S):
            await asyncio.gather(*drains, return_exceptions=True)
