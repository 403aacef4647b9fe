"""`groundswell up`: checks in plain sight what can be refused, then leaves the platform to a supervisor, here or detached."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from groundswell.engines import children, control, state, topology
from groundswell.engines.commands import say
from groundswell.engines.errors import SupervisorError
from groundswell.engines.home import Home
from groundswell.engines.platform import Platform
from groundswell.engines.supervisor import Supervisor

LISTENS_S_MAX = 10.0
INTERRUPTED = 130
"""Exit code of a command that ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asks of `up`."""

    name: str = "all"
    """Name of the topology."""
    file: Path = topology.DEFAULT
    port: int | None = None
    """Public port; 0 draws a free one, None keeps the last one."""

    def platform(self, home: Home) -> Platform:
        """Raises `SupervisorError` when it cannot be."""
        return Platform(home, topology.load(self.name, self.file), self.port, os.environ)

    def arguments(self) -> list[str]:
        """The plan as arguments of the command line."""
        port = [] if self.port is None else [f"--port={self.port}"]
        return [f"--topology={self.name}", f"--topology-file={self.file}", *port]


def up(home: Home, plan: Plan, *, foreground: bool) -> int:
    """Starts the platform and waits until everything is ready."""
    home.open()
    if home.running():
        return _already(home)
    if foreground:
        return _supervised(home, plan, say, lambda url: _announce(home, url))
    plan.platform(home)  # what can be refused is refused here, in plain sight
    supervisor = _detached(home, plan)
    try:
        url = asyncio.run(_followed(home, supervisor))
    except KeyboardInterrupt:
        _end(supervisor)
        print("\n  stopped while it started")
        return INTERRUPTED
    except BaseException:  # whoever hears that it failed must find nothing running
        _end(supervisor)
        raise
    _announce(home, url)
    return 0


def supervise(home: Home, plan: Plan) -> int:
    """Is the supervisor of a home until it is told to stop; its output is its log."""
    home.open()
    return _supervised(home, plan, lambda line: print(f"{time.strftime('%F %T')} {line}", flush=True), lambda url: None)


def _supervised(home: Home, plan: Plan, say: Callable[[str], None], when_up: Callable[[str], None]) -> int:
    lock = home.lock()
    if lock is None:
        return _already(home)
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # its complaints about a broker that starts; we say when it is ready
    with lock:
        platform = plan.platform(home)
        with home.gateway_port():
            home.write_credentials(platform.url)
            asyncio.run(Supervisor(home, platform, say, lambda: when_up(platform.url)).run())
    return 0


def _detached(home: Home, plan: Plan) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "groundswell", "supervise", f"--home={home.path}", *plan.arguments()]
    children.set_log_aside(home.logs / "supervisor.log")
    with (home.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Tells it to stop, unless it has ended, and waits until nothing of it runs."""
    supervisor.terminate()
    supervisor.wait()


async def _followed(home: Home, supervisor: subprocess.Popen[bytes]) -> str:
    """Tells how the start goes; returns the URL, raises `SupervisorError` when it fails."""
    deadline = time.monotonic() + LISTENS_S_MAX
    while True:
        try:
            return await control.ask(home.socket, {"do": "follow"}, say)
        except (OSError, control.NoAnswer) as error:  # it does not listen yet, or has ended already
            if supervisor.poll() is not None or time.monotonic() > deadline:
                end = children.log_end(home.logs / "supervisor.log")
                raise SupervisorError(f"The supervisor did not start. Its log ends with:\n{end}") from error
        await asyncio.sleep(children.POLL_S)


def _already(home: Home) -> int:
    found = state.read(home.state_file)
    unready = [each.name for each in found.processes if each.state != "ready"] if found else ["everything"]
    url = found.url if found else "its address"
    if unready:
        print(
            f"Groundswell runs already in {home.path}, but {', '.join(unready)} is not ready. See: {home.command('ps')}"
        )
        return 1
    print(f"Groundswell runs already: {url} (home {home.path}). Stop it with: {home.command('down')}")
    return 0


def _announce(home: Home, url: str) -> None:
    print(
        f"\nGroundswell is up: {url}\n  API key  {home.credentials_file}\n  watch    {home.command('ps')}\n"
        f"  stop     {home.command('down')}",
        flush=True,
    )
