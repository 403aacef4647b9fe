"""What a service gives to a process, and what a process gives to a service.

A module is one runnable part of a service: RPC servicers, long-running tasks and readiness checks. `Resources` is what it may
ask for; there is one per process, so that modules that share a process share its connections.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from groundswell.kernel import health, rpc, telemetry
from groundswell.kernel.resources import ProcessSettings, Resources

log = logging.getLogger(__name__)

DRAIN_S = 25.0

Task = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Module:
    """One runnable part of a service.

    `tasks` run until they are cancelled; when one ends or raises, the process drains and exits 1, and its supervisor starts it
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
    """Runs the modules in this process until SIGTERM, SIGINT or the death of one part; returns the exit code."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    async with Resources.open(environment) as resources:
        process = resources.settings(ProcessSettings)
        telemetry.setup(process.process or "+".join(factories), resources.settings(telemetry.TelemetrySettings))
        async with started(factories, resources, process) as (modules, readiness):
            failed = await _until_stopped(modules, resources.running, readiness, stopping)
    log.info("stopped")
    return 1 if failed else 0


@asynccontextmanager
async def started(
    factories: Mapping[str, Factory], resources: Resources, process: ProcessSettings
) -> AsyncIterator[tuple[list[Module], health.Readiness]]:
    """The modules, served at the process's addresses while the block runs; their tasks are the caller's to run."""
    async with AsyncExitStack() as stack:
        readiness = health.Readiness()
        await stack.enter_async_context(health.serve(readiness, process.ops_address))
        modules = [await stack.enter_async_context(factory(resources)) for factory in factories.values()]
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


async def _until_stopped(
    modules: Sequence[Module],
    background: Mapping[asyncio.Future[None], str],
    readiness: health.Readiness,
    stopping: asyncio.Event,
) -> bool:
    """Runs all tasks until told to stop or one of them dies, then drains; True when one died."""
    async with AsyncExitStack() as stack:
        running: dict[asyncio.Future[None], str] = {**background}
        for module in modules:
            for name, task in module.tasks.items():
                running[asyncio.create_task(_named(task))] = f"{module.name}.{name}"
        stack.push_async_callback(_cancelled, list(running))
        stop = asyncio.create_task(_named(stopping.wait))
        done, _ = await asyncio.wait({stop, *running}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        dead = [ended for ended in done if ended is not stop]
        for ended in dead:
            log.error("the task %s died, the process drains", running[ended], exc_info=ended.exception())
        if not dead:
            log.info("told to stop, draining")
        readiness.drain()
        await _drained(modules)
        return bool(dead)


async def _named(task: Callable[[], Awaitable[object]]) -> None:
    """A task of its own for anything that can be awaited."""
    await task()


async def _cancelled(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _drained(modules: Sequence[Module]) -> None:
    drains = [module.drain() for module in modules if module.drain]
    if drains:
        await asyncio.wait_for(asyncio.gather(*drains, return_exceptions=True), DRAIN_S)
