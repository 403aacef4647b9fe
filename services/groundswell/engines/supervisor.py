"""The supervisor: one process that starts the engines, then the topics, then our processes, and keeps all of them alive.

It owns its home by a lock; whoever holds no lock only talks to its socket. Everything that it started ends with it: by its own
hand in reverse order when it is told to stop, by the kernel's when it is killed. What an earlier supervisor recorded and the
kernel did not end is ended at the next start, if pid and start time still match; nothing is ever adopted.
"""

import asyncio
import difflib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from groundswell.engines import children, control, state
from groundswell.engines.errors import NotUp, SupervisorError, Unknown
from groundswell.engines.home import Home
from groundswell.engines.keeper import Keeper
from groundswell.engines.platform import Platform
from groundswell.engines.replicas import USER, Replicas

START_S_MAX = 120.0
CRASHES_AT_START_MAX = 5
REPORTS_MAX = 1_000

Say = Callable[[str], None]

log = logging.getLogger(__name__)


class Supervisor:
    """One running platform."""

    def __init__(self, home: Home, platform: Platform, say: Say, when_up: Callable[[], None]) -> None:
        self._home = home
        self._platform = platform
        self._when_up = when_up
        self._started = time.time()
        self._reports: list[str] = []
        self._listeners: set[Say] = {say}
        self._stopping = asyncio.Event()
        self._up = asyncio.Event()
        self._trouble: SupervisorError | None = None
        self._engines = [Keeper(*each, self._report) for each in platform.engines()]
        kept = {process: [Keeper(*each, self._report) for each in one] for process, one in platform.processes().items()}
        self._processes = {
            process: Replicas(process, keepers, platform.topology.bound_of(process))
            for process, keepers in kept.items()
        }
        self._all = [*self._engines, *(keeper for keepers in kept.values() for keeper in keepers)]

    async def run(self) -> None:
        """Runs the platform until it is told to stop; raises `SupervisorError` when it cannot be started, or kept any longer."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        await self._end_leftovers()
        if self._stopping.is_set():
            return
        async with AsyncExitStack() as stack:
            stack.callback(self._home.state_file.unlink, missing_ok=True)
            await stack.enter_async_context(control.serve(self._home.socket, self._answer, self._told, self._put))
            keeping = [asyncio.create_task(keeper.run()) for keeper in self._all]
            stack.push_async_callback(_ended, *keeping)
            stack.push_async_callback(self._stop_all)
            starting = asyncio.create_task(self._start_all())
            stop = asyncio.create_task(self._stopping.wait())
            for awaited in (starting, stop):
                await asyncio.wait({awaited, stop, *keeping}, return_when=asyncio.FIRST_COMPLETED)
                self._trouble = self._trouble or _unkept(self._all, keeping)
                await _ended(starting)
                if self._trouble is not None:
                    raise self._trouble

    async def _start_all(self) -> None:
        try:
            await self._start_in_order()
            with suppress(OSError):  # who cannot be told that all runs must not end it
                self._when_up()
        except SupervisorError as error:
            self._trouble = error
        except Exception as error:  # whatever it is, who waits for the start must hear that there is none
            log.exception("the platform could not be started")
            self._trouble = SupervisorError(f"The platform could not be started: {error!r}")
        finally:
            self._up.set()

    async def _start_in_order(self) -> None:
        loop = asyncio.get_running_loop()

        def say(line: str) -> None:
            loop.call_soon_threadsafe(self._report, line)

        await asyncio.to_thread(self._platform.prepare, say)
        for engine in self._engines:
            engine.want(True)
        await self._until_all_ready(self._engines)
        created = await self._platform.create_topics()
        if created:
            self._report(f"created {len(created)} topics")
        for process in self._processes.values():
            process.start()
        await self._until_all_ready([keeper for each in self._processes.values() for keeper in each.wanted])

    async def _until_all_ready(self, keepers: Sequence[Keeper]) -> None:
        await asyncio.gather(*(self._until_ready(keeper) for keeper in keepers))

    async def _until_ready(self, keeper: Keeper) -> None:
        """Or until nobody wants it any more; raises `SupervisorError` with the end of its log when it crashes again and again, or takes
        too long."""
        deadline = time.monotonic() + START_S_MAX
        crashes_before = keeper.restarts
        while keeper.wanted and not keeper.is_ready:
            crashes = keeper.restarts - crashes_before
            if crashes >= CRASHES_AT_START_MAX or time.monotonic() > deadline:
                why = f"crashed {crashes} times" if crashes else f"was not ready after {START_S_MAX:.0f} s"
                raise SupervisorError(f"{keeper.name} {why} while it started. Its log ends with:\n{_log_end(keeper)}")
            await asyncio.sleep(0.05)

    async def _stop_all(self) -> None:
        self._report("stopping")
        for process in reversed(self._processes.values()):
            process.stop()
        await _until_stopped(keeper for each in self._processes.values() for keeper in each.shown)
        for engine in reversed(self._engines):
            engine.want(False)
        await _until_stopped(self._engines)
        self._report("everything is stopped")

    async def _end_leftovers(self) -> None:
        """Ends what a killed supervisor left behind; or as much of it as there is time for, when it is told to stop meanwhile."""
        last = state.read(self._home.state_file)
        left = [each for each in last.processes if _runs(each)] if last else []
        for each in left:
            self._report(f"ending {each.name} (pid {each.pid}), left over by a supervisor that was killed")
            children.kill_group(each.pid or 0)
        while any(_runs(each) for each in left) and not self._stopping.is_set():
            await asyncio.sleep(children.POLL_S)

    async def _answer(self, request: control.Request, say: Say) -> str:
        name, settings = str(request.get("name", "")), dict(request.get("settings") or {})
        match request.get("do"):
            case "follow":
                return await self._follow(say)
            case "down":
                return await self._down(say)
            case "stop":
                return await self._stop(self._named(name, say))
            case "start" | "restart":
                return await self._restart(self._named(name, say), settings, must_run=request["do"] == "start")
            case "scale" if isinstance(replicas := request.get("replicas"), int):
                return await self._scale(self._named(name, say), replicas)
        raise SupervisorError(f"This supervisor does not know how to {request.get('do')!r}. Is it of another version?")

    async def _follow(self, say: Say) -> str:
        """Tells a listener all that was and is reported until the platform is up."""
        for line in self._reports:
            say(line)
        self._listeners.add(say)
        try:
            await self._up.wait()
        finally:
            self._listeners.discard(say)
        if self._trouble is not None:
            raise self._trouble
        if self._stopping.is_set():
            raise SupervisorError("It was stopped while it started.")
        return self._url

    async def _down(self, say: Say) -> str:
        self._listeners.add(say)
        self._stopping.set()
        for keeper in self._all:
            await keeper.until("stopped")
        return "stopped"

    async def _stop(self, kept: Keeper | Replicas) -> str:
        if isinstance(kept, Replicas):
            kept.stop()
            await _until_stopped(kept.shown)
        else:
            kept.want(False)
            await kept.until("stopped")
        return f"{kept.name} is stopped, and stays so until: {self._home.command('start', kept.name)}"

    async def _restart(self, kept: Keeper | Replicas, settings: Mapping[str, str], *, must_run: bool) -> str:
        """What runs is left alone if it only `must_run`; replicas are replaced one after the other, so that the others answer meanwhile."""
        keepers = kept.wanted if isinstance(kept, Replicas) else [kept]
        running = [each for each in keepers if each.wanted]
        if must_run and running and settings:
            raise SupervisorError(
                f"{kept.name} runs already; settings take effect with: {self._home.command('restart', kept.name)} --set NAME=VALUE"
            )
        idle = [each for each in keepers if each not in running]
        await _until_stopped(idle)
        for keeper in idle:
            keeper.settings.update(settings)
        if isinstance(kept, Replicas):
            kept.start()
        else:
            kept.want(True)
        for keeper in running if not must_run else ():
            await self._restart_one(keeper, settings, kept)
        await self._until_all_ready([each for each in keepers if each.wanted])
        self._home.write_credentials(self._url)
        return f"{kept.name} is ready"

    async def _restart_one(self, keeper: Keeper, settings: Mapping[str, str], kept: Keeper | Replicas) -> None:
        """Unless somebody scales it away, or stops it, meanwhile."""
        keeper.want(False)
        await keeper.until("stopped")
        keeper.settings.update(settings)
        if isinstance(kept, Keeper) or kept.wants(keeper):
            keeper.want(True)
            await self._until_ready(keeper)

    async def _scale(self, kept: Keeper | Replicas, replicas: int) -> str:
        """Returns once all that are wanted are ready, and what is not has ended."""
        process = self._scaled(kept, replicas, USER, None)
        await self._until_all_ready([each for each in process.wanted if each.wanted])
        await _until_stopped(process.shown[replicas:])
        found = process.snapshot()
        return f"{process.name} has {found.ready} of {found.desired} replicas ready"

    def _scaled(self, kept: Keeper | Replicas, replicas: int, by: str, version: int | None) -> Replicas:
        """Raises `Unknown`, `ScaleRefused`, `Outdated` or `NotUp`."""
        if isinstance(kept, Keeper):
            raise Unknown(
                f"{kept.name} is an engine, or one replica; processes can be scaled: {', '.join(self._processes)}."
            )
        if not self._up.is_set() or self._stopping.is_set():
            raise NotUp("The platform is starting or stopping; ask again once it is up.")
        kept.scale(replicas, by, version)
        self._report(f"{kept.name}: {replicas} wanted" + (f" by {by}" if by else ""))
        return kept

    def _put(self, name: str, replicas: int, by: str, version: int | None) -> dict[str, Any]:
        return self._scaled(self._named(name, lambda line: None), replicas, by, version).told()

    def _told(self) -> list[dict[str, Any]]:
        return [each.told() for each in self._processes.values()]

    @property
    def _url(self) -> str:
        """Where visitors come in, with what the user has set for the process with the public door."""
        door = self._platform.topology.process_of(self._platform.topology.door)
        return self._platform.url_with(self._processes[door].wanted[0].settings if door else {})

    @property
    def _shown(self) -> list[Keeper]:
        """What is wanted, or has not ended yet."""
        return [*self._engines, *(keeper for each in self._processes.values() for keeper in each.shown)]

    def _named(self, name: str, say: Say) -> Keeper | Replicas:
        """The engine or process of that name, or one of its replicas, or the process that runs the module, which is told: others run
        there as well."""
        if name in self._processes:
            return self._processes[name]
        keepers = {each.name: each for each in self._shown}
        if name in keepers:
            return keepers[name]
        if process := self._platform.topology.process_of(name):
            modules = ", ".join(self._platform.topology.processes[process])
            say(f"{name} runs inside the process {process} here ({modules})")
            return self._processes[process]
        near = difflib.get_close_matches(name, keepers, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise Unknown(f"Nothing here is called {name!r}.{hint} There are: {', '.join(keepers)}.")

    def _report(self, line: str) -> None:
        """Tells everybody, and state.json. Neither can fail: a full disk must not end what still runs."""
        self._reports = [*self._reports[-REPORTS_MAX:], line]
        self._tell(line)
        try:
            state.write(self._home.state_file, self.snapshot())
        except OSError as error:
            self._tell(f"{self._home.state_file} could not be written: {error}")

    def _tell(self, line: str) -> None:
        """Tells all who listen; a log or a terminal that takes nothing at the moment misses the line."""
        for listener in tuple(self._listeners):
            with suppress(OSError):
                listener(line)

    def snapshot(self) -> state.State:
        """What runs now."""
        me = {"pid": os.getpid(), "started": children.start_time_s(os.getpid()) or self._started}
        kept = [keeper.snapshot() for keeper in self._shown]
        return state.State(
            self._platform.topology.name,
            self._url,
            self._started,
            me,
            kept,
            self._platform.given,
            {name: each.snapshot() for name, each in self._processes.items()},
        )


def _runs(process: state.ProcessState) -> bool:
    return bool(process.pid and process.started and children.same_process(process.pid, process.started))


async def _until_stopped(keepers: Iterable[Keeper]) -> None:
    """Or until somebody wants them again."""
    for keeper in tuple(keepers):
        while keeper.state != "stopped" and not keeper.wanted:
            await asyncio.sleep(children.POLL_S)


def _unkept(keepers: Sequence[Keeper], keeping: Sequence[asyncio.Task[None]]) -> SupervisorError | None:
    """Why the platform cannot run on, when a keeper has ended before its time: nobody would start again what it kept."""
    for keeper, task in zip(keepers, keeping, strict=True):
        if task.done() and (error := task.exception()) is not None:
            log.error("the keeper of %s has ended", keeper.name, exc_info=error)
            return SupervisorError(f"{keeper.name} cannot be kept any longer, so everything is stopped: {error!r}")
    return None


def _log_end(keeper: Keeper) -> str:
    return children.log_end(keeper.described.log)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
