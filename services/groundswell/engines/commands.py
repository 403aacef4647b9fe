"""The commands on a platform that runs: down, ps, logs, stop, start, restart, scale. They talk to its supervisor, or read its files.

Each returns an exit code and raises `SupervisorError` with a sentence.
"""

import asyncio
import codecs
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from groundswell.engines import children, control, state
from groundswell.engines.errors import SupervisorError
from groundswell.engines.home import Home

FOLLOW_S = 0.2
LOG_LINES = 50


def down(home: Home) -> int:
    """Stops everything, the supervisor included."""
    if not home.running():
        print(f"Nothing runs in {home.path}.")
        return 0
    found = state.read(home.state_file)
    _ask(home, {"do": "down"})
    while home.running() or (found and _runs(found.supervisor)):
        time.sleep(children.POLL_S)
    return 0


def _runs(supervisor: Mapping[str, float]) -> bool:
    return children.same_process(int(supervisor["pid"]), supervisor["started"])


def change(home: Home, verb: str, name: str, settings: Mapping[str, str]) -> int:
    """stop, start or restart of one engine or process, or of the process that runs a module."""
    print(_ask(home, {"do": verb, "name": name, "settings": dict(settings)}))
    return 0


def scale(home: Home, name: str, replicas: int) -> int:
    """So many replicas of one process, or of the process that runs a module; ends once they are there."""
    print(_ask(home, {"do": "scale", "name": name, "replicas": replicas}))
    return 0


def ps(home: Home) -> int:
    """A table of what runs; exit code 1 when something is not ready."""
    found = state.read(home.state_file) if home.running() else None
    if found is None:
        raise SupervisorError(nothing_runs(home))
    rows: list[tuple[str, ...]] = [("NAME", "STATE", "REPLICAS", "PID", "RESTARTS", "UP", "MEMORY", "MODULES")]
    rows += [_row(each, found.replicas.get(each.name)) for each in found.processes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{found.url}  topology {found.topology}  home {home.path}")
    few = any(each.ready < each.desired for each in found.replicas.values())
    return 0 if all(each.state == "ready" for each in found.processes) and not few else 1


def logs(home: Home, name: str, *, follow: bool) -> int:
    """The end of a log, then what is added to it. The log of a module that runs is that of its process."""
    found = state.read(home.state_file)
    holder = found.holder(name) if found else None
    file = Path(holder.log) if holder else home.logs / f"{name}.log"
    if not file.exists():
        known = sorted(each.stem for each in home.logs.glob("*.log"))
        raise SupervisorError(f"There is no log of {name!r} in {home.logs}. There are: {', '.join(known) or 'none'}.")
    print(children.log_end(file, LOG_LINES), flush=True)
    if follow:
        _follow(file)
    return 0


def _follow(log: Path) -> None:
    """Shows what is added, also after the log was set aside and begins anew."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whence = os.SEEK_END
    while True:
        with log.open("rb") as stream:
            stream.seek(0, whence)
            while (added := stream.read()) or not _is_replaced(log, stream):
                print(decoder.decode(added), end="", flush=True)
                if not added:
                    time.sleep(FOLLOW_S)
                if os.fstat(stream.fileno()).st_size < stream.tell():
                    stream.seek(0)
        whence = os.SEEK_SET


def _is_replaced(log: Path, stream: BinaryIO) -> bool:
    """Whether another file is the log by now: one is set aside at the start of its process, before the next is made."""
    with suppress(FileNotFoundError):
        return not os.path.samestat(os.fstat(stream.fileno()), log.stat())
    return False


def address(home: Home, variable: str) -> str:
    """Where an engine of a running home listens; the environment comes first."""
    if os.environ.get(variable):
        return os.environ[variable]
    found = state.read(home.state_file) if home.running() else None
    if found is None:
        raise SupervisorError(nothing_runs(home))
    if (address := found.address(variable)) is None:
        raise SupervisorError(f"The platform in {home.path} has no {variable}. Set it in the environment.")
    return address


def internal_key(home: Home) -> str:
    """The key of the processes in the environment or, without one, of those of a home."""
    variable = "GROUNDSWELL_INTERNAL_KEY"
    try:
        return os.environ.get(variable) or home.secrets()["internal_key"]
    except FileNotFoundError as error:
        raise SupervisorError(f"There is no home in {home.path}. Name one with --home, or set {variable}.") from error


def _ask(home: Home, request: dict[str, Any]) -> str:
    try:
        return asyncio.run(control.ask(home.socket, request, say))
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise SupervisorError(nothing_runs(home)) from error


def nothing_runs(home: Home) -> str:
    return f"Nothing runs in {home.path}. Start it with: {home.command('up')}"


def say(line: str) -> None:
    """One line of progress for the user."""
    print(f"  {line}", flush=True)


def _row(process: state.ProcessState, replicas: state.ReplicasState | None) -> tuple[str, ...]:
    """The first replica's line says how many there are of its process."""
    alive = (
        process.pid is not None and process.started is not None and children.same_process(process.pid, process.started)
    )
    memory = f"{_memory_bytes(process.pid) >> 20} MiB" if alive and process.pid else ""
    uptime = f"{time.time() - process.started:.0f} s" if alive and process.started else ""
    modules = " ".join(process.modules)
    ready = f"{replicas.ready}/{replicas.desired}" if replicas else ""
    return process.name, process.state, ready, str(process.pid or ""), str(process.restarts), uptime, memory, modules


def _memory_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0
