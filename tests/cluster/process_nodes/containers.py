"""One container: its process from its start to its end, started again as its pod's restart policy says."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from groundswell.engines.children import Child, Launch, kill_group
from tests.cluster.control_plane.api import Object, Refused
from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.environment import expanded
from tests.cluster.process_nodes.errors import NotThere, Unsupported
from tests.cluster.process_nodes.images import FolderImage
from tests.cluster.process_nodes.probes import Place, Probe
from tests.cluster.process_nodes.states import ContainerState
from tests.cluster.process_nodes.translation import Translation

log = logging.getLogger(__name__)

BACKOFF_S_MIN, BACKOFF_S_MAX = 10.0, 300.0
"""The wait before a second restart, and what it doubles up to; a first restart comes at once. A kubelet's own."""
GOOD_AFTER_S = 600.0
"""Who has run for so long is restarted at once again."""
RETRY_S = 1.0
KILL_S_MIN = 2.0
"""Between SIGTERM and SIGKILL there is this much at least, also when preStop has used up the grace."""


@dataclass(frozen=True)
class Order:
    """What a container needs to be started."""

    pod: Object
    told: Object
    image: FolderImage
    translation: Translation
    folder: Path
    """Logs of its lives."""
    variables: Callable[[], Awaitable[Mapping[str, str]]]
    """Its environment by its manifest; asked before each start."""

    @property
    def grace_s(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))


@dataclass
class Container:
    """Runs one; `changed` is called when its state has changed."""

    order: Order
    changed: Callable[[], None]
    state: ContainerState = field(default_factory=ContainerState)
    _child: Child | None = None
    _environment: Mapping[str, str] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, policy: str) -> int:
        """Until it has ended for good; its last exit code. `policy` is Always, OnFailure or Never. Raises `Unsupported`."""
        backoff_s = 0.0
        while True:
            began_s = time.monotonic()
            code = await self._lived()
            if self._stopping.is_set() or policy == "Never" or (policy == "OnFailure" and not code):
                return code
            if time.monotonic() - began_s > GOOD_AFTER_S:
                backoff_s = 0.0
            if backoff_s:
                self._say(self.state.waits, "CrashLoopBackOff", f"back-off {backoff_s:.0f}s")
                if await _within(self._stopping.wait(), backoff_s):
                    return code
            backoff_s = min(max(BACKOFF_S_MIN, backoff_s * 2), BACKOFF_S_MAX)
            self.state.restarts += 1

    async def stop(self, deadline_s: float) -> None:
        """Ends it for good: preStop, SIGTERM, and SIGKILL at `deadline_s` (monotonic)."""
        self._stopping.set()
        await self._end(deadline_s)

    def kill(self) -> None:
        """At once, with all that it started."""
        self._stopping.set()
        if self._child is not None and self._child.exit_code is None:
            self._child.kill()

    async def execute(self, command: Sequence[str]) -> int:
        """Runs a command with the container's environment; its exit code."""
        program = [self.order.translation.here(each) for each in command]
        process = await asyncio.create_subprocess_exec(
            *program,
            env=dict(self._environment),
            cwd=self.order.image.workdir,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return await process.wait()
        finally:
            kill_group(process.pid)

    async def _lived(self) -> int:
        """One life; its exit code."""
        self._environment = await self._variables()
        if self._stopping.is_set():
            return 0
        self._child = child = Child(self._launch())
        self._say(self.state.runs, child.pid)
        watching = asyncio.create_task(self._watch())
        try:
            code = await child.wait()
        finally:
            watching.cancel()
            child.kill()  # what it has started goes with it
        await asyncio.wait({watching})
        self._say(self.state.ended, code)
        return code

    async def _variables(self) -> Mapping[str, str]:
        """The whole environment, once all that it names is there."""
        while True:
            try:
                manifest = await self.order.variables()
            except (NotThere, Refused, httpx.HTTPError) as missing:
                self._say(self.state.waits, "CreateContainerConfigError", str(missing))
                await asyncio.sleep(RETRY_S)
                continue
            translation = self.order.translation
            place = {"POD_IP": local(translation.address)}
            own = {
                name: expanded(str(translation.mounts.get(value, value)), place)
                for name, value in self.order.image.environment.items()
            }
            own |= {"HOSTNAME": self.order.pod["metadata"]["name"]}
            if temporary := translation.mounts.get("/tmp"):
                own["TMPDIR"] = str(temporary)
            return own | {name: translation.here(value) for name, value in manifest.items()}

    def _launch(self) -> Launch:
        told, here = self.order.told, self.order.translation.here
        words = [expanded(each, self._environment) for each in (*told.get("command", []), *told.get("args", []))]
        entry = [] if "command" in told else self.order.image.entrypoint
        log_file = self.order.folder / f"{told['name']}-{self.state.restarts}.log"
        command = [*entry, *map(here, words)]
        # env(1) instead of the launch's own environment, which is added to the agent's.
        cleared = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in self._environment.items()), *command]
        return Launch(cleared, log_file, Path(told.get("workingDir") or self.order.image.workdir))

    async def _watch(self) -> None:
        """Probes the running process: startup first, then readiness and liveness for as long as it runs."""
        told = self.order.told
        place = Place(local(self.order.translation.address), _ports(told), self.execute)
        startup = told.get("startupProbe")
        if startup and not await Probe(startup, place).until_judged():
            await self._replace("startup")
            return
        self._say(self.state.started)
        async with asyncio.TaskGroup() as group:
            if "readinessProbe" in told:
                group.create_task(Probe(told["readinessProbe"], place).watched(partial(self._say, self.state.judged)))
            else:
                self._say(self.state.judged, True)
            if "livenessProbe" in told:
                group.create_task(self._alive(Probe(told["livenessProbe"], place)))

    async def _alive(self, probe: Probe) -> None:
        if await probe.until_judged():
            await probe.until_changed(known=True)
        await self._replace("liveness")

    async def _replace(self, probe: str) -> None:
        log.warning("%s of %s failed its %s probe", self.order.told["name"], self.order.pod["metadata"]["name"], probe)
        if not self._stopping.is_set():
            # Apart from the probes: they are cancelled when the process ends.
            await asyncio.shield(asyncio.ensure_future(self._end(time.monotonic() + self.order.grace_s)))

    async def _end(self, deadline_s: float) -> None:
        """Ends the process that runs now, once, whoever asks."""
        async with self._ending:
            child = self._child
            if child is None or child.exit_code is not None:
                return
            await _within(self._before_stop(), max(deadline_s - time.monotonic(), 0))
            if child.exit_code is None:
                os.kill(child.pid, signal.SIGTERM)
            if not await _within(child.wait(), max(deadline_s - time.monotonic(), KILL_S_MIN)):
                log.warning("%s is killed, its grace is over", self.order.pod["metadata"]["name"])
                child.kill()
            await child.wait()

    async def _before_stop(self) -> None:
        hook = (self.order.told.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            await self.execute(hook["exec"]["command"])
        elif "httpGet" in hook:
            place = Place(local(self.order.translation.address), _ports(self.order.told), self.execute)
            await Probe({"httpGet": hook["httpGet"], "timeoutSeconds": int(self.order.grace_s)}, place).tried()

    def _say(self, change: Callable[..., None], *values: object) -> None:
        change(*values)
        self.changed()


def refuse_unknown(told: Object) -> None:
    """Raises `Unsupported` for what would not be done."""
    if "postStart" in (told.get("lifecycle") or {}):
        raise Unsupported(f"{told['name']} has a postStart hook")
    if told.get("restartPolicy"):
        raise Unsupported(f"{told['name']} is a sidecar")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if (told.get(name) or {}).get("httpGet", {}).get("scheme", "HTTP") != "HTTP":
            raise Unsupported(f"{told['name']} has a {name} by HTTPS")
    for mount in told.get("volumeMounts", []):
        if "subPath" in mount or "subPathExpr" in mount:
            raise Unsupported(f"{told['name']} mounts a part of {mount['name']}")


def _ports(told: Object) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in told.get("ports", []) if "name" in each}


async def _within(work: Awaitable[object], seconds: float) -> bool:
    """Whether it ended in time; what is late is cancelled."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
